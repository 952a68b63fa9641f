// Package filestoretest finds folders for tests that keep states in files.
package filestoretest

import (
	"os"
	"path/filepath"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/watermark"
)

// Folder returns a new folder on a file system that may hold states, which is removed after
// the test. The usual one may be a tmpfs.
func Folder(t testing.TB) string {
	t.Helper()
	for _, root := range []string{os.TempDir(), "."} {
		dir, err := os.MkdirTemp(root, "privyseal-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = filestore.Create(filestore.Config{Path: filepath.Join(dir, "probe"), ID: watermark.ID{ChainID: "probe"}}, watermark.Saved{})
		if err == nil {
			if dir, err = filepath.Abs(dir); err == nil {
				return dir
			}
		}
		t.Logf("%s: %v", dir, err)
	}
	t.Fatal("no folder on a local disk; set TMPDIR to one")
	return ""
}
