package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// Store is an open and locked state file. It is a [watermark.Store].
//
// A call that has reached the disk returns when the disk does, whatever becomes
// of its context: no system call is given up half-way.
type Store struct {
	c      Config
	sys    *system
	fd     int
	ino    unix.Stat_t // of fd, as it was opened
	host   []hostFile
	around surroundings

	// ready is true while cur is known to be what the disk holds.
	ready  bool
	cur    record
	flawed bool // a copy of a record was bad when it was read

	// companion is the file that was made for the first write of this process, or -1.
	companion int

	slot [slotSize]byte // what is written next
	st   unix.Stat_t    // scratch of onPath
}

var _ watermark.Store = (*Store)(nil)

// Open locks the state file and checks what can be checked without reading it:
// a regular file of ours, mode 0600 or stricter, on a local disk. Load reads it.
// The error is an *[Error] around one of the reasons, or the context's.
func Open(ctx context.Context, c Config) (*Store, error) {
	s, err := c.open(ctx, kernel())
	if err != nil {
		return nil, c.explain("open", err)
	}
	return s, nil
}

func (c Config) open(ctx context.Context, sys *system) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Nonblocking, or a fifo in its place would hang us.
	fd, err := sys.open(c.Path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, &fault{err: ErrMissing}
	case errors.Is(err, unix.ELOOP):
		return nil, &fault{err: ErrUnsafe, detail: "it is a symbolic link", cure: "name the file itself in the key `state` of the config"}
	case err != nil:
		return nil, err
	}
	if err := sys.lock(ctx, fd, c.Wait); err != nil {
		return nil, err
	}
	s := &Store{c: c, sys: sys, fd: fd, companion: -1}
	if s.host, err = c.lockHost(ctx, sys); err == nil {
		err = s.inspect()
	}
	if err != nil {
		unlockHost(sys, s.host)
		sys.flock(fd, unix.LOCK_UN)
		sys.close(fd)
		return nil, err
	}
	return s, nil
}

// inspect checks the open file and finds out what it must be bound to, and when it
// was changed last: after the lock, and before anything is written.
func (s *Store) inspect() (err error) {
	if err := s.sys.fstat(s.fd, &s.ino); err != nil {
		return err
	}
	if err := s.onPath(); err != nil {
		return err
	}
	if err := s.sys.checkDisk(s.fd); err != nil {
		return err
	}
	if err := checkFile(s.c.Path, &s.ino, uint32(os.Geteuid())); err != nil {
		return err
	}
	s.around.here, err = s.sys.bindingOf(s.fd)
	s.around.mtime, s.around.ctime = s.ino.Mtim.Nano(), s.ino.Ctim.Nano()
	return err
}

// onPath checks that the path still leads to the open file. Otherwise whoever
// opens the path next finds a state that knows nothing of our writes.
func (s *Store) onPath() error {
	err := s.sys.lstat(s.c.Path, &s.st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return &fault{err: errReplaced, detail: "it is missing"}
	case err != nil:
		return err
	case s.st.Dev != s.ino.Dev || s.st.Ino != s.ino.Ino || s.st.Nlink == 0:
		return &fault{err: errReplaced, detail: fmt.Sprintf("inode %d, not %d", s.st.Ino, s.ino.Ino)}
	}
	return nil
}

// next returns r as the record that follows the ruling one.
func (s *Store) next(r record) record {
	r.seq, r.stamp = s.cur.seq+1, s.sys.now().UnixNano()
	return r
}

// write makes r the next record. It is durable when write returns.
func (s *Store) write(r record) error { return s.put(s.next(r)) }

// put makes r the ruling record: in the slot of the older one, so that a crash
// leaves the present one. It is durable when put returns.
func (s *Store) put(r record) error {
	if err := r.check(); err != nil {
		return err
	}
	r.encodeSlot(&s.slot, s.c.MACKey)
	if err := s.sys.writeSlot(s.fd, slotOf(r.seq), &s.slot); err != nil {
		return err
	}
	s.cur = r
	s.noteOnHost(s.slot[:recordSize])
	return nil
}

// noteOnHost notes a record for the host, which is durable or was accepted.
func (s *Store) noteOnHost(sector []byte) {
	for i := range s.host {
		s.host[i].note(s.sys, sector, s.c.Path)
	}
}
