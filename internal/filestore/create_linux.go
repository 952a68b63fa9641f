package filestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// Create makes a new state file of mode 0600 that holds saved.Mark, written at
// saved.Time (the zero time is now; the version is ignored). It makes missing
// directories with mode 0700. It returns when file and directories are durable.
//
// The file appears under its name whole or not at all, and never in the place of
// another one: ErrExists. The other errors are *[Error]s too.
func Create(c Config, saved watermark.Saved) error {
	return c.explain("create", c.create(kernel(), saved))
}

func (c Config) create(sys *system, saved watermark.Saved) error {
	if saved.Time.IsZero() {
		saved.Time = sys.now()
	}
	r := record{seq: 1, time: saved.Time.UnixNano(), id: c.ID, mark: saved.Mark, mac: len(c.MACKey) > 0}
	if err := r.check(); err != nil {
		return err
	}
	dir := filepath.Dir(c.Path)
	if err := sys.makeDir(dir); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := sys.lstat(c.Path, &st); err == nil {
		return &fault{err: ErrExists}
	}
	// A crash before the link leaves no trace.
	fd, err := sys.open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return sys.orUnsafe(dir, fmt.Errorf("cannot make a file in %s: %w", dir, err))
	}
	defer sys.close(fd)
	if err := sys.checkDisk(fd); err != nil {
		return err
	}
	if err := c.fill(sys, fd, r); err != nil {
		return err
	}
	if err := sys.link(fd, c.Path); errors.Is(err, unix.EEXIST) {
		return &fault{err: ErrExists}
	} else if err != nil {
		return fmt.Errorf("cannot name the file: %w", err)
	}
	// The link count too: some file systems drop a nameless file at mount.
	if err := sys.fsync(fd); err != nil {
		return err
	}
	return sys.syncDirs(dir)
}

// fill writes a whole file to fd and returns when it is durable.
func (c Config) fill(sys *system, fd int, r record) (err error) {
	if r.binding, err = sys.bindingOf(fd); err != nil {
		return err
	}
	image := make([]byte, fileSize)
	for range 2 {
		r.encode((*[slotSize]byte)(image[slotOf(r.seq)*slotOffset:]), c.MACKey)
		r.seq++
	}
	for done := 0; done < len(image); {
		n, err := sys.pwrite(fd, image[done:], int64(done))
		if err != nil {
			return fmt.Errorf("cannot fill the file: %w", err)
		}
		done += n
	}
	return sys.fsync(fd)
}

// orUnsafe returns why dir cannot hold state, if its file system is the reason,
// and err otherwise.
func (sys *system) orUnsafe(dir string, err error) error {
	fd, openErr := sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if openErr != nil {
		return err
	}
	defer sys.close(fd)
	if disk := sys.checkDisk(fd); disk != nil {
		return disk
	}
	return err
}

// makeDir makes dir and what is missing above it, each durable.
func (sys *system) makeDir(dir string) error {
	err := sys.mkdir(dir, 0o700)
	if errors.Is(err, unix.ENOENT) && filepath.Dir(dir) != dir {
		if err := sys.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = sys.mkdir(dir, 0o700)
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case err != nil:
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return sys.syncDir(filepath.Dir(dir))
}

// syncDirs makes durable what was entered into dir, and dir itself: an earlier
// Create may have made it and crashed before its sync. A parent that we may not
// read was not made by us.
func (sys *system) syncDirs(dir string) error {
	if err := sys.syncDir(dir); err != nil {
		return err
	}
	if err := sys.syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, unix.EACCES) {
		return err
	}
	return nil
}

func (sys *system) syncDir(dir string) error {
	fd, err := sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer sys.close(fd)
	if err := sys.fsync(fd); err != nil {
		return &os.PathError{Op: "fsync", Path: dir, Err: err}
	}
	return nil
}
