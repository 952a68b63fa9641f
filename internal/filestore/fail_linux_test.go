package filestore

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// breakage makes the n-th call of one kind, counted from 1, fail in its way.
type breakage struct {
	name string
	in   func(sys *system, hit func() bool)
	want error
}

func breakages() []breakage {
	pwrite := func(err error, before int) func(*system, func() bool) {
		return func(sys *system, hit func() bool) {
			real := sys.pwrite
			sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
				// A companion that fails is another matter: TestCompanionFails.
				if len(p) == recordSize || !hit() {
					return real(fd, p, off)
				}
				n, _ := real(fd, p[:before], off)
				return n, err
			}
		}
	}
	sync := func(err error) func(*system, func() bool) {
		return func(sys *system, hit func() bool) {
			open, real := sys.open, sys.fdatasync
			beside := map[int]bool{} // TestCompanionFails again
			sys.open = func(path string, flags int, mode uint32) (int, error) {
				fd, err := open(path, flags, mode)
				beside[fd] = strings.Contains(path, CompanionSuffix)
				return fd, err
			}
			sys.fdatasync = func(fd int) error {
				if !beside[fd] && hit() {
					return err
				}
				return real(fd)
			}
		}
	}
	return []breakage{
		{"pwrite: EIO", pwrite(unix.EIO, 0), unix.EIO},
		{"pwrite: EIO after 100 bytes", pwrite(unix.EIO, 100), unix.EIO},
		{"pwrite: disk full", pwrite(unix.ENOSPC, 0), unix.ENOSPC},
		{"pwrite: short", pwrite(nil, 100), io.ErrShortWrite},
		{"pwrite: nothing", pwrite(nil, 0), io.ErrShortWrite},
		{"fdatasync: EIO", sync(unix.EIO), unix.EIO},
		{"fdatasync: disk full", sync(unix.ENOSPC), unix.ENOSPC},
		{"fdatasync: quota", sync(unix.EDQUOT), unix.EDQUOT},
	}
}

// broken returns a system that breaks at the n-th hit.
func broken(b breakage, n int) *system {
	sys := kernel()
	calls := 0
	b.in(sys, func() bool { calls++; return calls == n })
	return sys
}

// Whatever fails, the store refuses until it is loaded, and then goes on from
// the old mark or the new one.
func TestWriteFails(t *testing.T) {
	for _, b := range breakages() {
		t.Run(b.name, func(t *testing.T) {
			c := create(t, at(1))
			s, err := c.open(t.Context(), broken(b, 2))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			two := replace(t, s, load(t, s), at(2))
			_, err = s.Replace(t.Context(), two, at(3))
			if !errors.Is(err, b.want) || !strings.HasPrefix(err.Error(), "cannot write state "+c.Path+": cannot ") {
				t.Fatalf("Replace: %v", err)
			}
			if _, err := s.Replace(t.Context(), two, at(4)); !errors.Is(err, errUnloaded) {
				t.Fatalf("Replace after a failed one: %v", err)
			}
			saved := load(t, s)
			if !saved.Mark.Equal(at(2)) && !saved.Mark.Equal(at(3)) {
				t.Fatalf("loaded %v", saved.Mark)
			}
			replace(t, s, saved, at(5))
		})
	}
}

func TestLoadFails(t *testing.T) {
	reads := breakage{"pread: EIO", func(sys *system, hit func() bool) {
		real := sys.pread
		sys.pread = func(fd int, p []byte, off int64) (int, error) {
			if hit() {
				return 0, unix.EIO
			}
			return real(fd, p, off)
		}
	}, unix.EIO}
	for _, b := range append(breakages(), reads) {
		t.Run(b.name, func(t *testing.T) {
			c := create(t, at(0))
			signs(t, c, at(1), true) // what was stopped cleanly is read only
			s, err := c.open(t.Context(), broken(b, 1))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Load(t.Context()); !errors.Is(err, b.want) {
				t.Fatalf("Load: %v", err)
			}
			if _, err := s.Replace(t.Context(), watermark.Saved{Version: 2}, at(2)); !errors.Is(err, errUnloaded) {
				t.Fatalf("Replace after a failed Load: %v", err)
			}
			if saved := load(t, s); !saved.Mark.Equal(at(1)) {
				t.Fatalf("loaded %v", saved.Mark)
			}
		})
	}
}

// A file cut off while it is open.
func TestReadsAreCutOff(t *testing.T) {
	c := create(t, at(1))
	s := open(t, c)
	for size, want := range map[int64]string{0: "slot 0 is cut off after 0 bytes", 100: "slot 0 is cut off after 100 bytes", slotOffset: "slot 1 is cut off after 0 bytes"} {
		if err := unix.Ftruncate(s.fd, size); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Whichever call of a Create fails, the file is there whole or not at all, and
// not at all unless the call came after the file had its name.
func TestCreateFails(t *testing.T) {
	fail := func(sys *system, hit func() bool) {
		open, pwrite, fsync, link, mkdir := sys.open, sys.pwrite, sys.fsync, sys.link, sys.mkdir
		sys.open = func(path string, flags int, mode uint32) (int, error) {
			if hit() {
				return -1, unix.EMFILE
			}
			return open(path, flags, mode)
		}
		sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
			if hit() {
				return 0, unix.ENOSPC
			}
			return pwrite(fd, p[:min(len(p), 50_000)], off)
		}
		sys.fsync = func(fd int) error {
			if hit() {
				return unix.EIO
			}
			return fsync(fd)
		}
		sys.link = func(fd int, path string) error {
			if hit() {
				return unix.ENOSPC
			}
			return link(fd, path)
		}
		sys.mkdir = func(path string, mode uint32) error {
			if hit() {
				return unix.ENOSPC
			}
			return mkdir(path, mode)
		}
	}
	for n := 1; ; n++ {
		c := Config{Path: filepath.Join(diskDir(t), "new", "state"), ID: testID}
		linked := false
		sys := broken(breakage{in: fail}, n)
		link := sys.link
		sys.link = func(fd int, path string) error {
			err := link(fd, path)
			linked = err == nil
			return err
		}
		err := c.create(sys, watermark.Saved{Mark: at(1)})
		if err == nil {
			if n < 12 {
				t.Errorf("Create makes only %d calls that can fail", n-1)
			}
			return
		}
		if err := loadErr(c); linked && err != nil || !linked && !errors.Is(err, ErrMissing) {
			t.Errorf("call %d failed, linked %t: then %v", n, linked, err)
		}
		if again := Create(c, watermark.Saved{Mark: at(1)}); !linked && again != nil || linked && !errors.Is(again, ErrExists) {
			t.Errorf("call %d failed, linked %t: a second Create: %v", n, linked, again)
		}
	}
}

// Adopt, Raise and Export may fail at each of their writes: nothing is said
// before it is durable, nothing is lowered, and they can be run again.
func TestMovesFail(t *testing.T) {
	for _, b := range breakages() {
		for n := 1; n <= 3; n++ { // the write of the load, and one to each slot
			t.Run(b.name, func(t *testing.T) {
				c := create(t, at(5))
				if saved, err := c.export(broken(b, n)); !errors.Is(err, b.want) || !saved.Mark.IsZero() {
					t.Errorf("Export: %+v, %v", saved, err)
				}
				if saved, err := Export(c); err != nil || !saved.Mark.Equal(at(5)) {
					t.Errorf("Export again: %+v, %v", saved, err)
				}
				if err := c.raise(broken(b, n), watermark.Saved{Mark: at(6)}); !errors.Is(err, b.want) {
					t.Errorf("Raise: %v", err)
				}
				if err := Raise(c, watermark.Saved{Mark: at(6)}); err != nil {
					t.Errorf("Raise again: %v", err)
				}
				if n == 3 {
					return // an adoption does not keep what it found
				}
				elsewhere := broken(b, n)
				elsewhere.machineID = func() ([]byte, error) { return []byte("another\n"), nil }
				if err := c.adopt(elsewhere); !errors.Is(err, b.want) {
					t.Errorf("Adopt: %v", err)
				}
				if err := Adopt(c); err != nil {
					t.Errorf("Adopt again: %v", err)
				}
				if saved := loaded(t, c); !saved.Mark.Equal(at(6)) {
					t.Errorf("and now the mark is %v", saved.Mark)
				}
			})
		}
	}
}

// A companion that cannot be made or written costs evidence, and no start and no
// mark.
func TestCompanionFails(t *testing.T) {
	for name, spoil := range map[string]func(sys *system){
		"no room for it": func(sys *system) {
			real := sys.open
			sys.open = func(path string, flags int, mode uint32) (int, error) {
				if strings.HasSuffix(path, newCompanion) && flags&unix.O_CREAT != 0 {
					return -1, unix.ENOSPC
				}
				return real(path, flags, mode)
			}
		},
		"no room for what is in it": func(sys *system) {
			real, first := sys.pwrite, true
			sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
				if len(p) == recordSize && first {
					first = false
					return 0, unix.ENOSPC
				}
				return real(fd, p, off)
			}
		},
		"no room for what is in any": func(sys *system) {
			real := sys.pwrite
			sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
				if len(p) == recordSize {
					return 0, unix.ENOSPC
				}
				return real(fd, p, off)
			}
		},
		"it cannot be synced": func(sys *system) { sys.fsync = func(int) error { return unix.EIO } },
		"it cannot be written at the end": func(sys *system) {
			real, n := sys.pwrite, 0
			sys.pwrite = func(fd int, p []byte, off int64) (int, error) {
				if len(p) == recordSize {
					if n++; n == 3 { // before what is noted of the start, and what the new one holds
						return 0, unix.EIO
					}
				}
				return real(fd, p, off)
			}
		},
	} {
		c := create(t, at(1))
		for h := int64(2); h < 5; h++ {
			sys := kernel()
			spoil(sys)
			s, err := c.open(t.Context(), sys)
			if err != nil {
				t.Fatal(err)
			}
			replace(t, s, load(t, s), at(h))
			unsealed := name == "it cannot be written at the end" || name == "no room for what is in any"
			if err := s.Close(); (err != nil) != unsealed {
				t.Errorf("%s: Close: %v", name, err)
			}
			if _, err := os.Stat(c.Path + newCompanion); err == nil {
				t.Errorf("%s: a file is left", name)
			}
		}
		if saved := loaded(t, c); !saved.Mark.Equal(at(4)) {
			t.Errorf("%s: loaded %v", name, saved.Mark)
		}
	}
}

func TestInterruptedCallsAreMadeAgain(t *testing.T) {
	results := []error{unix.EINTR, unix.EINTR, unix.EIO}
	if err := again(func() error { err := results[0]; results = results[1:]; return err }); err != unix.EIO || len(results) != 0 {
		t.Errorf("%v, %d results left", err, len(results))
	}
}

// The waiting goroutine of an Open that was called off closes the file when it
// gets the lock: else nobody ever got it again.
func TestWaitIsCalledOff(t *testing.T) {
	c := create(t, at(1))
	c.Wait = true
	holder := open(t, c)
	sys := kernel()
	closed := make(chan struct{})
	waiting := make(chan struct{})
	flock, closeFile := sys.flock, sys.close
	sys.flock = func(fd, how int) error {
		if how == unix.LOCK_EX {
			close(waiting)
		}
		return flock(fd, how)
	}
	sys.close = func(fd int) error { defer close(closed); return closeFile(fd) }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-waiting; cancel() }()
	if _, err := c.open(ctx, sys); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	holder.Close()
	<-closed
	if err := loadErr(c); err != nil {
		t.Error(err)
	}
}
