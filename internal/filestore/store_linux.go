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
	c    Config
	sys  *system
	fd   int
	here binding
	ino  unix.Stat_t // of fd, for comparison

	// ready is true while cur is known to be what the disk holds.
	ready bool
	cur   record
	torn  bool

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
	s := &Store{c: c, sys: sys, fd: fd}
	if err := s.inspect(); err != nil {
		sys.close(fd)
		return nil, err
	}
	return s, nil
}

// lock locks fd, or closes it and returns an error.
//
// The wait for a lock cannot be called off: if ctx ends first, the descriptor
// is left to the waiting goroutine, which closes it as soon as it gets the lock.
func (sys *system) lock(ctx context.Context, fd int, wait bool) error {
	err := sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if err != unix.EWOULDBLOCK || !wait {
		sys.close(fd)
		if err == unix.EWOULDBLOCK {
			return &fault{err: ErrLocked}
		}
		return fmt.Errorf("cannot lock it: %w", err)
	}
	locked := make(chan error) // without a buffer: one of the two takes the descriptor
	gone := make(chan struct{})
	go func() {
		err := sys.flock(fd, unix.LOCK_EX)
		select {
		case locked <- err:
		case <-gone:
			sys.close(fd)
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			sys.close(fd)
			return fmt.Errorf("cannot lock it: %w", err)
		}
		return nil
	case <-ctx.Done():
		close(gone)
		return ctx.Err()
	}
}

// inspect checks the open file and finds out what it must be bound to.
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
	s.here, err = s.sys.bindingOf(s.fd)
	return err
}

// onPath checks that the path still leads to the open file. Otherwise whoever
// opens the path next finds a state that knows nothing of our writes.
func (s *Store) onPath() error {
	err := s.sys.lstat(s.c.Path, &s.st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return &fault{err: ErrReplaced, detail: "there is none"}
	case err != nil:
		return err
	case s.st.Dev != s.ino.Dev || s.st.Ino != s.ino.Ino || s.st.Nlink == 0:
		return &fault{err: ErrReplaced, detail: fmt.Sprintf("inode %d, not %d", s.st.Ino, s.ino.Ino)}
	}
	return nil
}

// read reads the file and makes durable what it finds, for whatever chain, key
// or binding: it writes the ruling record once more to its own slot. The page
// cache may hold what no disk does, if an earlier process was killed before its
// sync, or if that sync failed.
func (s *Store) read() error {
	s.ready = false
	if err := s.onPath(); err != nil {
		return err
	}
	var slots [2][slotSize]byte
	if err := s.sys.readSlots(s.fd, &slots); err != nil {
		return err
	}
	cur, torn, err := judge(&slots, s.c.MACKey)
	if err != nil {
		return err
	}
	if err := s.c.own(&cur); err != nil {
		return err
	}
	i := slotOf(cur.seq)
	if err := s.sys.writeSlot(s.fd, i, &slots[i]); err != nil {
		return err
	}
	s.cur, s.torn = cur, torn
	return nil
}

// Load implements [watermark.Store]. The error is an *[Error], or the context's.
func (s *Store) Load(ctx context.Context) (watermark.Saved, error) {
	s.ready = false
	err := ctx.Err()
	if err == nil {
		err = s.read()
	}
	if err == nil {
		err = s.c.accept(&s.cur, s.here)
	}
	if err != nil {
		return watermark.Saved{}, s.c.explain("load", err)
	}
	s.ready = true
	return s.cur.saved(), nil
}

// Replace implements [watermark.Store]: one pwrite and one fdatasync. Besides
// [watermark.ErrMoved], which it returns as it is, the error is an *[Error]. A
// mark that is not above old is an error too.
func (s *Store) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if !s.ready {
		return watermark.Saved{}, s.c.explain("write", &fault{err: ErrUnloaded})
	}
	if old.Version != s.cur.seq {
		return watermark.Saved{}, watermark.ErrMoved
	}
	s.ready = false
	next := s.cur
	next.mark, next.time = m, s.sys.now().UnixNano()
	err := ctx.Err()
	if err == nil && !s.cur.mark.Less(m) {
		err = &fault{err: ErrBelow, detail: fmt.Sprintf("%v, the state is at %v", m, s.cur.mark)}
	}
	if err == nil {
		err = s.onPath()
	}
	if err == nil {
		err = s.write(next)
	}
	if err != nil {
		return watermark.Saved{}, s.c.explain("write", err)
	}
	s.ready = true
	return s.cur.saved(), nil
}

// write makes r, numbered anew, the ruling record: in the slot of the older one,
// so that a crash leaves the present one. It is durable when write returns.
func (s *Store) write(r record) error {
	r.seq = s.cur.seq + 1
	if err := r.check(); err != nil {
		return err
	}
	r.encode(&s.slot, s.c.MACKey)
	if err := s.sys.writeSlot(s.fd, slotOf(r.seq), &s.slot); err != nil {
		return err
	}
	s.cur, s.torn = r, false
	return nil
}

// Torn reports whether the last Load found one of the two records unreadable: a
// write that was cut off, for which nothing was signed. The next write mends it.
func (s *Store) Torn() bool { return s.torn }

// Close releases the lock. It loses nothing: all that was confirmed is durable.
func (s *Store) Close() error {
	s.ready = false
	fd := s.fd
	s.fd = -1
	if fd < 0 {
		return nil
	}
	// A child that is being forked right now holds a copy of the descriptor, and
	// the lock with it, until it executes its program.
	unlock := s.sys.flock(fd, unix.LOCK_UN)
	return s.c.explain("close", errors.Join(unlock, s.sys.close(fd)))
}
