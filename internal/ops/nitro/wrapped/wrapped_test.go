package wrapped

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key file that an enclave cannot use says why, with one cure.
func TestReadWrappedRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"":                           "it does not begin as one\nput the file that `privyseal init` named for the backup back",
		"privyseal software key 1\n": "it is of another provider: it begins with \"privyseal software key 1\", not with \"privyseal wrapped key 1\"\ncorrect the provider",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, "chain-1"); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
