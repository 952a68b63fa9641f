package filestore

import (
	"cmp"
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
		return &fault{err: errReplaced, detail: "there is none"}
	case err != nil:
		return err
	case s.st.Dev != s.ino.Dev || s.st.Ino != s.ino.Ino || s.st.Nlink == 0:
		return &fault{err: errReplaced, detail: fmt.Sprintf("inode %d, not %d", s.st.Ino, s.ino.Ino)}
	}
	return nil
}

// read reads the file, and what stands around it. Nothing is written. Of a record
// that is refused with ErrRestored or ErrCopied, or as exported, cur is set all the
// same, for who may revive it.
func (s *Store) read() (problem, err error) {
	s.ready = false
	if err := s.onPath(); err != nil {
		return nil, err
	}
	var slots [2][slotSize]byte
	if err := s.sys.readSlots(s.fd, &slots); err != nil {
		return nil, err
	}
	s.around.host = s.c.readHost(s.sys, s.host, s.ino.Uid)
	if s.around.companions, err = s.c.companions(s.sys); err != nil {
		return nil, err
	}
	cur, flawed, problem := judge(&slots, s.c.MACKey)
	if problem != nil && !errors.Is(problem, ErrRestored) {
		return nil, problem
	}
	if err := s.c.own(&cur); err != nil {
		return nil, err
	}
	s.cur, s.flawed = cur, flawed
	if problem == nil {
		problem = s.c.accept(&cur, &s.around)
	}
	return problem, nil
}

// keep makes durable the record that was read and accepted: it writes it once more
// to its own slot. The page cache may hold what no disk does, if an earlier process
// was killed before its sync, or if that sync failed. Companion and host hear of it
// first: if we are cut off then, the times of the file no longer speak for it.
func (s *Store) keep() error {
	s.announce()
	s.cur.encodeSlot(&s.slot, s.c.MACKey)
	s.noteOnHost(s.slot[:recordSize])
	return s.sys.writeSlot(s.fd, slotOf(s.cur.seq), &s.slot)
}

// Load implements [watermark.Store]. The error is an *[Error], or the context's.
func (s *Store) Load(ctx context.Context) (watermark.Saved, error) {
	s.ready = false
	err := ctx.Err()
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return watermark.Saved{}, s.c.explain("load", err)
	}
	s.ready = true
	return s.cur.saved(), nil
}

func (s *Store) load() error {
	problem, err := s.read()
	if err := cmp.Or(err, problem); err != nil {
		return err
	}
	if !s.flawed && s.around.atRest(&s.cur) {
		// All of it was durable before the companion said so, and nothing is written
		// before there is another one. So 500 states are open at once.
		s.cur.encodeSlot(&s.slot, s.c.MACKey)
		s.noteOnHost(s.slot[:recordSize])
		return nil
	}
	if err := s.keep(); err != nil {
		return err
	}
	// From here on it is us who change the file. A new record has its times too: they
	// are all that speaks for it after another kill.
	if s.around.mtime, s.around.ctime = 0, 0; s.companion >= 0 && s.named() {
		return nil
	}
	return s.renew(s.cur)
}

// named reports whether the ruling record names our companion: if its first record
// failed to be written, another one is made.
func (s *Store) named() bool {
	id, err := s.sys.fileID(s.companion)
	return err == nil && id == s.cur.companion
}

// Replace implements [watermark.Store]: one pwrite and one fdatasync, and the first
// time a new companion. Besides
// [watermark.ErrMoved], which it returns as it is, the error is an *[Error]. A
// mark that is not above old is an error too.
func (s *Store) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if !s.ready {
		return watermark.Saved{}, s.c.explain("write", &fault{err: errUnloaded})
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
	switch {
	case err != nil:
	case s.companion < 0:
		s.announce() // that it is at rest no more
		err = s.renew(next)
	default:
		err = s.write(next)
	}
	if err != nil {
		return watermark.Saved{}, s.c.explain("write", err)
	}
	s.ready = true
	return s.cur.saved(), nil
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

// Close says in the companion that the state is at rest, and releases the locks. If
// that fails nothing is lost: all that was confirmed is durable. After a write that has
// failed it loads first: the times of the file are those of the attempt.
func (s *Store) Close() error {
	fd := s.fd
	if fd < 0 {
		return nil
	}
	var sealed error
	if s.companion >= 0 && (s.ready || s.load() == nil) {
		sealed = s.seal()
	}
	if s.companion >= 0 {
		s.sys.close(s.companion)
	}
	s.fd, s.companion, s.ready = -1, -1, false
	unlockHost(s.sys, s.host)
	// A child that is being forked right now holds a copy of the descriptor, and
	// the lock with it, until it executes its program.
	unlock := s.sys.flock(fd, unix.LOCK_UN)
	return s.c.explain("close", errors.Join(sealed, unlock, s.sys.close(fd)))
}
