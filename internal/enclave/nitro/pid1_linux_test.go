package nitro

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEndEarly(t *testing.T) {
	dir := t.TempDir()
	names := []string{"kernel/panic", "kernel/panic_on_oops", "vm/panic_on_oom"}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		// It is never made: a kernel that has none of that name has no such setting.
		if err := endEarly(dir); err == nil || !strings.Contains(err.Error(), "cannot be set to end when it fails") || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := endEarly(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != "1\n" {
			t.Errorf("%s is %q, %v", name, text, err)
		}
	}
}
