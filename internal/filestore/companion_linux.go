package filestore

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The companion is a small file beside the state, X.gen, that is made again for the first
// write of each process; each record names it by its kernel handle. Whatever brings back the bytes
// of the state, and be it of the whole folder, cannot bring back that file: it
// writes into the present one, or makes another.
//
// It holds one record of 512 bytes: the last one before it was made, and after a
// clean stop the last one of all, with flag 4. So it also says after a stop that
// nothing was written since, whatever became of the times of the state. Before a start
// changes the file it says in the present one which record it has found, and when: if
// the power goes before the next record is there, the times of the file are that start's.

const newCompanion = CompanionSuffix + ".new"

// companions returns the companions of the state at path. During a load, or after
// one that was killed, there are two.
func (c *Config) companions(sys *system) (all []companion, err error) {
	for _, suffix := range []string{CompanionSuffix, newCompanion} {
		one, err := c.companion(sys, c.Path+suffix)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the file beside it, %s: %w", c.Path+suffix, err)
		}
		all = append(all, one)
	}
	return all, nil
}

func (c *Config) companion(sys *system, path string) (one companion, err error) {
	fd, err := sys.open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return one, err
	}
	defer sys.close(fd)
	if one.id, err = sys.fileID(fd); err != nil {
		return one, err
	}
	var sector [recordSize]byte
	n, err := sys.pread(fd, sector[:], 0)
	if err != nil || n != recordSize {
		return one, err
	}
	if r, err := decode(sector[:], c.MACKey); err == nil {
		one.last = &r
	}
	return one, nil
}

// announce says in the companion that the ruling record, which was accepted, is about to
// be written again or followed. If that fails, a start that is cut off next may be taken
// for a restore, and nothing else is lost.
func (s *Store) announce() {
	for _, suffix := range []string{CompanionSuffix, newCompanion} {
		fd, err := s.sys.open(s.c.Path+suffix, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if id, err := s.sys.fileID(fd); err == nil && id == s.cur.companion {
			r := s.cur
			r.seen = s.sys.now().UnixNano()
			if s.note(fd, r) == nil {
				s.sys.fdatasync(fd)
			}
		}
		s.sys.close(fd)
	}
}

// renew makes a new companion, and r, numbered and stamped, the ruling record that
// names it.
//
// A crash before r is durable leaves the old record and both files, of which the
// old one is named; a crash after that leaves the new record and both files, of
// which the new one is named. The next load takes the unnamed one away.
func (s *Store) renew(r record) error {
	if err := s.tidy(); err != nil {
		return err
	}
	if s.companion >= 0 {
		s.sys.close(s.companion)
		s.companion = -1
	}
	id, err := s.create()
	isNew := err == nil
	if !isNew {
		// A folder that is not ours to write, or has room for no name, stops nobody: the
		// present one has to do. What was put back across a boot, with the whole folder, is
		// not seen then.
		if id, err = s.reopen(err); err != nil {
			return err
		}
	}
	r = s.next(r)
	r.binding, r.companion = s.around.here, id
	if err := s.put(r); err != nil {
		return err
	}
	if !isNew {
		return nil
	}
	// It need not be durable: until it is, the file has the other name.
	if err := s.sys.rename(s.c.Path+newCompanion, s.c.Path+CompanionSuffix); err != nil {
		return fmt.Errorf("cannot name the file beside it: %w", err)
	}
	return nil
}

// create makes a companion that holds the ruling record, durable under its first
// name, and leaves nothing if it fails.
func (s *Store) create() (id fileID, err error) {
	name := s.c.Path + newCompanion
	fd, err := s.sys.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return id, fmt.Errorf("cannot make %s: %w", name, err)
	}
	s.companion = fd
	if id, err = s.besideState(fd); err == nil {
		// The ruling record: the next one is not there yet. On a full disk it stays empty,
		// and is another file all the same: what was backed up does not name it.
		s.note(fd, s.cur)
		err = s.sys.fsync(fd)
	}
	if err == nil {
		err = s.sys.syncDir(filepath.Dir(s.c.Path))
	}
	if err != nil {
		s.sys.unlink(name)
		s.sys.close(fd)
		s.companion = -1
	}
	return id, err
}

// reopen takes the companion that is there, and says in it that the state is no longer
// at rest; cause is why there is no new one.
func (s *Store) reopen(cause error) (id fileID, err error) {
	fd, err := s.sys.open(s.c.Path+CompanionSuffix, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return id, cause
	}
	if id, err = s.sys.fileID(fd); err != nil {
		s.sys.close(fd)
		return id, cause
	}
	s.companion = fd
	r := s.cur
	r.seen = s.sys.now().UnixNano() // as announce
	if err := s.note(fd, r); err != nil {
		return id, err
	}
	return id, s.sys.fdatasync(fd)
}

// tidy ends what a crash in renew has left: it gives the companion that the ruling
// record names its proper name, and takes any other one that is new away.
func (s *Store) tidy() error {
	name := s.c.Path + newCompanion
	one, err := s.c.companion(s.sys, name)
	switch {
	case err == unix.ENOENT:
		return nil
	case err == nil && one.id == s.cur.companion:
		if err := s.sys.rename(name, s.c.Path+CompanionSuffix); err != nil {
			return fmt.Errorf("cannot name %s: %w", name, err)
		}
		return s.sys.syncDir(filepath.Dir(s.c.Path))
	}
	if err := s.sys.unlink(name); err != nil {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	return nil
}

// besideState returns the id of the companion, which has to be on the file system of
// the state: elsewhere it would not share its life.
func (s *Store) besideState(fd int) (id fileID, err error) {
	var st unix.Stat_t
	if err := s.sys.fstat(fd, &st); err != nil {
		return id, err
	}
	if st.Dev != s.ino.Dev {
		return id, &fault{
			err:    ErrUnsafe,
			detail: "it is on another file system than its folder, as a file that is mounted by itself",
			cure:   "mount the folder, not the file",
		}
	}
	return s.sys.fileID(fd)
}

// note writes r to a companion. It is for the caller to sync.
func (s *Store) note(fd int, r record) error {
	var sector [recordSize]byte
	r.encode(&sector, s.c.MACKey)
	n, err := s.sys.pwrite(fd, sector[:], 0)
	if err == nil && n != recordSize {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("cannot write to the file beside it: %w", err)
	}
	return nil
}

// seal says in the companion that the ruling record is the last one. If it fails,
// or is cut off, the next start has to do with less.
func (s *Store) seal() error {
	last := s.cur
	last.closed = true
	if err := s.note(s.companion, last); err != nil {
		return err
	}
	return s.sys.fdatasync(s.companion)
}
