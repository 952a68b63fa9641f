package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// read reads the file, and what is around it. Nothing is written. Of a record
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
	if !s.succeeded() {
		s.noteOnHost(s.slot[:recordSize])
	}
	return s.sys.writeSlot(s.fd, slotOf(s.cur.seq), &s.slot)
}

// succeeded reports whether the state has ended here, and the host remembers another one that
// has gone on from there: that is what it has to remember.
func (s *Store) succeeded() bool {
	return s.cur.exported && slices.ContainsFunc(s.around.host, func(k record) bool {
		return k.binding != s.cur.binding && (s.cur.mark.Less(k.mark) || k.shared && !k.mark.Less(s.cur.mark))
	})
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
		s.announce() // that it is no longer at rest
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
