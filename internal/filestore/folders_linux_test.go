package filestore

import (
	"path/filepath"
	"testing"

	"privyseal/internal/watermark"
)

// A folder that Create makes is entered durably into the one above it, up to one that
// was there.
func TestEachNewFolderIsSynced(t *testing.T) {
	top := diskDir(t)
	sys, paths, synced := kernel(), map[int]string{}, map[string]bool{}
	open, fsync := sys.open, sys.fsync
	sys.open = func(path string, flags int, mode uint32) (int, error) {
		fd, err := open(path, flags, mode)
		paths[fd] = path
		return fd, err
	}
	sys.fsync = func(fd int) error {
		synced[paths[fd]] = true
		return fsync(fd)
	}
	c := Config{Path: filepath.Join(top, "a/b/c/x.mark"), ID: watermark.ID{ChainID: "chain-1"}}
	if err := c.create(sys, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "a", "a/b", "a/b/c"} {
		if path := filepath.Join(top, dir); !synced[path] {
			t.Errorf("%q is not synced: a power cut takes away what was entered into it", dir)
		}
	}
}
