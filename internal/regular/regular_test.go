package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file of the limit is read, and nothing that is larger, no file, or waits for a writer.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ path, want string }{
		"empty":           {file("empty", 0), ""},
		"of the limit":    {file("limit", 10), ""},
		"one more":        {file("more", 11), "it has more than 10 bytes"},
		"a pipe":          {pipe, "it is not a regular file"},
		"a folder":        {dir, "it is not a regular file"},
		"a device":        {"/dev/zero", "it is not a regular file"},
		"missing":         {filepath.Join(dir, "missing"), "no such file"},
		"of no size":      {"/proc/self/status", "it changed while it was read"},
		"a link to a dir": {link(t, dir), "it is not a regular file"},
	} {
		data, _, err := Read(tt.path, 10)
		if tt.want == "" && (err != nil || strings.Trim(string(data), "x") != "") {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		var of *fs.PathError
		if tt.want != "" && (data != nil || !errors.As(err, &of) || of.Path != tt.path || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func link(t *testing.T, target string) string {
	path := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Whoever may write the file that names what signs decides what signs.
func TestReadOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o644: true, 0o400: true, 0o620: false, 0o602: false, 0o666: false} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadOurs(path, 10); (err == nil) != ok || err != nil && !strings.HasSuffix(err.Error(), "\n`chmod go-w "+path+"`") {
			t.Errorf("%04o: %v", mode, err)
		}
	}
}
