package filestore

import (
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/watermark"
)

// syncing returns a system that notes which paths were synced.
func syncing() (sys *system, synced map[string]bool) {
	sys, synced = kernel(), map[string]bool{}
	paths := map[int]string{}
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
	return sys, synced
}

// A companion is durable before a record names it: one that a power cut empties says
// nothing any more.
func TestNewCompanionIsSynced(t *testing.T) {
	c := Config{Path: filepath.Join(diskDir(t), "x.mark"), ID: watermark.ID{ChainID: "chain-1"}}
	if err := Create(c, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	sys, synced := syncing()
	s, err := c.open(t.Context(), sys)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	saved, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replace(t.Context(), saved, watermark.Mark{Height: 1, Step: watermark.StepPrevote}); err != nil {
		t.Fatal(err)
	}
	if !synced[c.Path+newCompanion] {
		t.Errorf("synced were %v", synced)
	}
}

// Before a start writes to the state, also the first time after a stop, its companion
// says so on the disk.
func TestStartIsAnnounced(t *testing.T) {
	for _, killed := range []bool{true, false} {
		c := create(t, at(1))
		signs(t, c, at(2), killed)
		sys := kernel()
		var calls []string
		open, pwrite, fdatasync := sys.open, sys.pwrite, sys.fdatasync
		paths := map[int]string{}
		sys.open = func(path string, flags int, mode uint32) (int, error) {
			fd, err := open(path, flags, mode)
			paths[fd] = filepath.Ext(path)
			return fd, err
		}
		sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
			calls = append(calls, "write "+paths[fd])
			return pwrite(fd, p, off)
		}
		sys.fdatasync = func(fd int) error {
			calls = append(calls, "sync "+paths[fd])
			return fdatasync(fd)
		}
		s, err := c.open(t.Context(), sys)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, s, load(t, s), at(3))
		s.Close()
		if got := strings.Join(calls[:3], ", "); got != "write .gen, sync .gen, write "+filepath.Ext(c.Path) && got != "write .gen, sync .gen, write .new" {
			t.Errorf("killed before %t: %v", killed, calls)
		}
	}
}

// A record is accepted as it was written: each bit of it is under its checksum, and
// so is each bit of that.
func TestRecordsAreWhole(t *testing.T) {
	r := record{seq: 3, id: watermark.ID{ChainID: "chain-1"}, mark: watermark.Mark{Height: 9, Step: watermark.StepPrevote, SignBytes: []byte("bytes")}}
	for _, key := range [][]byte{nil, []byte("key")} {
		r.mac = key != nil
		var sector [recordSize]byte
		r.encode(&sector, key)
		if _, err := decode(sector[:], key); err != nil {
			t.Fatal(err)
		}
		for bit := range recordSize * 8 {
			sector[bit/8] ^= 1 << (bit % 8)
			if got, err := decode(sector[:], key); err == nil {
				t.Fatalf("bit %d turned: %+v", bit, got)
			}
			sector[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// A folder that Create makes is entered durably into the one above it, up to one that
// was there.
func TestEachNewFolderIsSynced(t *testing.T) {
	top := diskDir(t)
	sys, synced := syncing()
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
