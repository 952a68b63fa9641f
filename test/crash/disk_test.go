//go:build linux

package crash

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sectorSize = 512

// sectors are the offsets of those that the store reads: two copies of a record in
// each of two slots. What becomes of the other ones changes nothing.
var sectors = [4]int{0, sectorSize, 64 << 10, 64<<10 + sectorSize}

// sector is one of the four: what a read returns, what the disk holds for
// certain, and what was written since and may have reached the disk.
type sector struct {
	cache, media string
	maybe        []string
	// dirty says that the next sync writes it. A sync that fails leaves it
	// clean, as the kernel does.
	dirty bool
}

// disk is a model of a disk with one state file and the directories to it, fed
// with the system calls of real processes.
type disk struct {
	t    *testing.T
	path string // of the state
	file [4]sector
	// old says that the state was there before the first call.
	old bool
	// sized says that a sync of the file has succeeded, so that its size is on
	// the disk.
	sized bool
	// named are the entries of directories: true if durable.
	named map[string]bool
	fds   map[int]string // what the process has open; "" is the file
}

func newDisk(t *testing.T, path string) *disk {
	d := &disk{t: t, path: path, named: map[string]bool{}, fds: map[int]string{}}
	for i := range d.file {
		d.file[i].cache = strings.Repeat("\x00", sectorSize)
		d.file[i].media = d.file[i].cache
	}
	return d
}

// mounted returns a disk on which the state has been for long.
func mounted(t *testing.T, path string) *disk {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := newDisk(t, path)
	d.old, d.sized = true, true
	for i, off := range sectors {
		d.file[i].cache = string(content[off : off+sectorSize])
		d.file[i].media = d.file[i].cache
	}
	return d
}

// does feeds one call. It knows each that can change a file, and fails for those
// that the store is not known to make.
func (d *disk) does(c call) {
	if c.killed || c.name == "" {
		return
	}
	fd, open := "no file", false
	if n := c.args[0]; strings.Trim(n, "0123456789") == "" {
		fd, open = d.fds[c.number(d.t, 0)]
	}
	state := open && fd == ""
	switch c.name {
	case "openat":
		d.opens(c)
	case "close":
		delete(d.fds, c.number(d.t, 0))
	case "mkdirat":
		if c.result == 0 {
			d.named[c.args[1]] = false
		}
	case "linkat":
		if c.result == 0 && c.args[3] == d.path {
			d.named[d.path] = false
		}
	case "pread64":
		if state && c.result > 0 {
			d.reads(c)
		}
	case "pwrite64":
		if state && c.result > 0 {
			d.writes(c)
		}
	case "fdatasync", "fsync":
		if state {
			d.syncs(c)
		} else if open && c.result == 0 {
			d.syncsDir(fd)
		}
	case "write":
		if state {
			d.t.Fatalf("the model knows no %s of the state", c.name)
		}
	case "renameat", "unlinkat":
		// The file beside the state, which internal/filestore has a model of.
		if slices.Contains(c.args, d.path) {
			d.t.Fatalf("the model knows no %s of the state", c.name)
		}
	case "rename", "renameat2", "unlink", "link", "truncate", "ftruncate", "fallocate",
		"pwritev", "pwritev2", "writev", "copy_file_range", "sendfile", "symlink", "symlinkat", "mkdir", "creat", "open":
		d.t.Fatalf("the model knows no %s", c.name)
	}
}

func (d *disk) opens(c call) {
	if c.result < 0 {
		return
	}
	switch path := c.args[1]; {
	case path == d.path, path == filepath.Dir(d.path) && strings.Contains(c.args[2], "O_TMPFILE"):
		d.fds[c.result] = ""
	default:
		d.fds[c.result] = path
	}
}

// reads checks the model against the real page cache.
func (d *disk) reads(c call) {
	for i, off := range sectors {
		at := off - c.number(d.t, 3)
		if at < 0 || at >= c.result {
			continue
		}
		if got := c.args[1][at : at+sectorSize]; got != d.file[i].cache {
			d.t.Fatalf("the process read %q from sector %d, the model holds %q", got, i, d.file[i].cache)
		}
	}
}

func (d *disk) writes(c call) {
	start := c.number(d.t, 3)
	if start%sectorSize != 0 || c.result%sectorSize != 0 {
		d.t.Fatalf("a write of %d bytes at %d meets parts of sectors", c.result, start)
	}
	for i, off := range sectors {
		if at := off - start; at >= 0 && at < c.result {
			s := &d.file[i]
			s.cache, s.dirty = c.args[1][at:at+sectorSize], true
			s.maybe = append(s.maybe, s.cache)
		}
	}
}

func (d *disk) syncs(c call) {
	for i := range d.file {
		s := &d.file[i]
		if s.dirty && c.result == 0 {
			s.media, s.maybe = s.cache, nil
		}
		s.dirty = false
	}
	d.sized = d.sized || c.result == 0
}

func (d *disk) syncsDir(dir string) {
	for path := range d.named {
		if filepath.Dir(path) == dir {
			d.named[path] = true
		}
	}
}

// restart is the end of a process and the start of another one.
func (d *disk) restart() { clear(d.fds) }

// outcome is what a loss of power may leave.
type outcome struct {
	absent bool // no name, or no content yet
	file   [4]string
}

// outcomes returns all that a loss of power at this moment may leave.
func (d *disk) outcomes() (all []outcome) {
	_, named := d.named[d.path]
	if !d.old && !named {
		return []outcome{{absent: true}}
	}
	lost := !d.sized
	for path := d.path; path != "/"; path = filepath.Dir(path) {
		if durable, made := d.named[path]; made && !durable {
			lost = true
		}
	}
	if lost {
		all = append(all, outcome{absent: true})
	}
	left := []outcome{{}}
	for i, s := range d.file {
		var next []outcome
		for _, o := range left {
			for _, content := range append(s.maybe, s.media) {
				o.file[i] = content
				next = append(next, o)
			}
		}
		left = next
	}
	return append(all, left...)
}
