package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// Create makes a new state file of mode 0600 that holds saved.Mark, written at
// saved.Time (the zero time is now; the version is ignored). It makes missing
// directories with mode 0700. It returns when file and directories are durable.
//
// The file appears under its name whole or not at all, and never in place of
// another one: ErrExists. The other errors are *[Error]s too.
func Create(c Config, saved watermark.Saved) error {
	return c.explain("create", c.create(kernel(), saved))
}

func (c Config) create(sys *system, saved watermark.Saved) error {
	now := sys.now()
	if saved.Time.IsZero() {
		saved.Time = now
	}
	r := record{seq: 1, time: saved.Time.UnixNano(), stamp: now.UnixNano(), id: c.ID, mark: saved.Mark, mac: len(c.MACKey) > 0}
	if err := r.check(); err != nil {
		return err
	}
	dir := filepath.Dir(c.Path)
	if err := sys.makeDir(dir); err != nil {
		return err
	}
	folder, err := sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sys.close(folder)
	// One at a time: the companion has its name before the state has.
	if err := sys.flock(folder, unix.LOCK_EX); err != nil {
		return fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := sys.lstat(c.Path, &st); err == nil {
		return &fault{err: ErrExists}
	}
	known := c.peekHost(sys, uint32(os.Geteuid()))
	if err := c.notBelowHost(known, saved.Mark); err != nil {
		return err
	}
	// A crash before the link leaves no trace but a companion that the next Create
	// takes away.
	fd, err := sys.open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return sys.orUnsafe(dir, fmt.Errorf("cannot make a file in %s: %w", dir, err))
	}
	defer sys.close(fd)
	if err := sys.checkDisk(fd); err != nil {
		return err
	}
	made, err := c.fill(sys, fd, r)
	if err != nil {
		return err
	}
	if err := sys.link(fd, c.Path); errors.Is(err, unix.EEXIST) {
		return &fault{err: ErrExists}
	} else if err != nil {
		sys.unlink(c.Path + CompanionSuffix)
		return fmt.Errorf("cannot name the file: %w", err)
	}
	// The link count too: some file systems drop a nameless file at mount.
	if err := sys.fsync(fd); err != nil {
		return err
	}
	if err := sys.syncDirs(dir); err != nil {
		return err
	}
	c.takeIn(sys, known, made)
	return nil
}

// takeIn notes for the host a new file whose mark another file of this host has
// exported: the next copy of that other file that turns up is not who imported it. A
// signer that runs knows better.
func (c *Config) takeIn(sys *system, known []record, made record) {
	moved := func(k record) bool { return k.exported && !k.mark.Less(made.mark) }
	if !slices.ContainsFunc(known, moved) {
		return
	}
	alone := *c
	alone.Wait = false
	files, err := alone.lockHost(context.Background(), sys)
	if err != nil {
		return
	}
	s := Store{c: *c, sys: sys, host: files}
	made.encodeSlot(&s.slot, c.MACKey)
	s.noteOnHost(s.slot[:recordSize])
	unlockHost(sys, files)
}

// fill writes a whole file to fd and its companion beside it, and returns the ruling
// record when both are durable. If it fails, it leaves no companion.
func (c Config) fill(sys *system, fd int, r record) (made record, err error) {
	if r.binding, err = sys.bindingOf(fd); err != nil {
		return made, err
	}
	beside := c.Path + CompanionSuffix
	for _, stale := range []string{beside, c.Path + newCompanion} {
		if err := sys.unlink(stale); err != nil && err != unix.ENOENT {
			return made, fmt.Errorf("cannot remove %s: %w", stale, err)
		}
	}
	s := Store{c: c, sys: sys, fd: fd}
	if err := sys.fstat(fd, &s.ino); err != nil {
		return made, err
	}
	s.companion, err = sys.open(beside, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return made, fmt.Errorf("cannot make %s: %w", beside, err)
	}
	defer sys.close(s.companion)
	if err := s.fill(r); err != nil {
		sys.unlink(beside)
		return made, err
	}
	return s.cur, nil
}

func (s *Store) fill(r record) (err error) {
	if r.companion, err = s.besideState(s.companion); err != nil {
		return err
	}
	image := make([]byte, fileSize)
	for range 2 {
		r.encodeSlot((*[slotSize]byte)(image[slotOf(r.seq)*slotOffset:]), s.c.MACKey)
		s.cur = r
		r.seq++
	}
	for done := 0; done < len(image); {
		n, err := s.sys.pwrite(s.fd, image[done:], int64(done))
		if err != nil {
			return fmt.Errorf("cannot fill the file: %w", err)
		}
		done += n
	}
	if err := s.sys.fsync(s.fd); err != nil {
		return err
	}
	if err := s.seal(); err != nil {
		return err
	}
	return s.sys.fsync(s.companion)
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
