package sharedmark

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"

	"privyseal/internal/watermark"
)

// Info is what a shared mark looks like to who only looks.
type Info struct {
	ID       watermark.ID
	Saved    watermark.Saved
	Exported bool
	// Newest is what Adopt on this host would make of it. Ended says that Adopt would
	// refuse, since that is an export.
	Newest watermark.Saved
	Ended  bool
	// Lineage names the init or adoption that it descends from, in hexadecimal.
	Lineage string
	// Writer and Floor are, in hexadecimal, whose floor wrote the last record, and the
	// floor of this host: the same if that was this host. Floor is empty without one.
	Writer, Floor string
	// Known is what the floor of this host knows.
	Known watermark.Mark
	// Position is where the engine stands.
	Position Position
	// Problem is why Load would refuse it, an *[Error], or nil.
	Problem error
}

// Peek reads the mark and changes nothing, whoever has it open. known is the mark that the
// store of this host's floor holds, or the zero mark; c.Floor is not used. What is wrong
// with what is there stands in Info.Problem; the error, an *[Error], says that there is
// nothing to be seen. With ErrRestored, Newest is what this host knows.
func Peek(ctx context.Context, c Config, known watermark.Mark) (Info, error) {
	s := New(c)
	s.trusts, s.known = true, true
	info, err := s.peek(ctx, known)
	return info, explain("read", err)
}

func (s *Store) peek(ctx context.Context, known watermark.Mark) (info Info, err error) {
	if s.floor, err = decodeFloor(known); err != nil {
		return info, err
	}
	at, err := s.read(ctx)
	if err != nil {
		return info, err
	}
	f := &s.floor
	info.Position, info.Known = s.reached, f.mark
	if !f.isEmpty() {
		info.Floor = hex.EncodeToString(f.writer[:])
	}
	r, problem := s.open(at)
	if at.Value == nil && !f.isEmpty() && !f.pending {
		next := s.adopted(r, problem)
		info.Newest, info.Ended = next.saved(), next.exported
	}
	if at.Value == nil || r.seq == 0 {
		return info, cmp.Or(problem, f.fence(s.reached))
	}
	info.ID, info.Saved, info.Exported = r.id, r.saved(), r.exported
	info.Lineage, info.Writer = hex.EncodeToString(r.lineage[:]), hex.EncodeToString(r.writer.floor[:])
	if problem == nil {
		problem = s.judge(&r, at)
	}
	next := s.adopted(r, problem)
	info.Newest, info.Ended = next.saved(), next.exported
	info.Problem = explain("use", problem)
	return info, nil
}

// judge returns why Load would refuse r.
func (s *Store) judge(r *record, at At) error {
	if s.floor.isEmpty() && r.exported {
		return refuse(ErrExported, "it was at %v", r.mark)
	}
	if s.floor.isEmpty() {
		return refuse(ErrUnjoined, "it is at %v", r.mark)
	}
	err := cmp.Or(s.floor.fence(s.reached), s.floor.accept(r, at.Revision))
	if err == nil && r.exported {
		err = refuse(ErrExported, "it was at %v", r.mark)
	}
	return err
}

// Create makes the mark where there is none, and joins this host to it: ErrExists if there
// is one, or if this host has joined one. Cut off, it can be repeated, as long as nobody
// else has made one; ErrExists then says that it was done.
func Create(ctx context.Context, c Config, first watermark.Saved) error {
	return explain("create", New(c).create(ctx, first))
}

func (s *Store) create(ctx context.Context, first watermark.Saved) error {
	s.trusts = true
	at, err := s.read(ctx)
	if err != nil {
		return err
	}
	f := &s.floor
	if !f.isNew() {
		return refuse(ErrExists, "this host has seen it at %v", f.mark)
	}
	if first.Time.IsZero() {
		first.Time = s.now()
	}
	r := record{id: s.c.ID, mark: first.Mark, time: first.Time.UnixNano(), lineage: f.lineage}
	if at.Value == nil {
		// The floor first: a value without one would be nobody's.
		s.found()
		if r.lineage == [16]byte{} {
			s.random(r.lineage[:])
		}
		f.lineage, f.pending, f.mark = r.lineage, true, watermark.Mark{Height: r.mark.Height, Round: r.mark.Round, Step: r.mark.Step}
		if err := s.keepFloor(ctx); err != nil {
			return err
		}
		if won, err := s.swap(ctx, r); won || err != nil {
			return err
		}
		at = s.lost
	}
	// Ours, if an earlier Create of this host was cut off.
	there, err := s.open(at)
	if err != nil {
		return err
	}
	if there.lineage != f.lineage || there.seq != 1 || !there.mark.Equal(first.Mark) {
		return refuse(ErrExists, "it is at %v", there.mark)
	}
	return s.settle(ctx, there, at)
}

// Join makes the floor of a host out of what is there, for a signer that is to share the
// mark. It takes the word of the database for it that this is the newest, but for Config.Signed,
// up to which the mark is raised. A host that has
// joined is left as it is; ErrRestored and others say why it cannot go on.
func Join(ctx context.Context, c Config) error { return explain("join", New(c).join(ctx)) }

func (s *Store) join(ctx context.Context) error {
	s.trusts = true
	for {
		at, err := s.read(ctx)
		if err != nil {
			return err
		}
		r, err := s.open(at)
		if err != nil {
			return err
		}
		if !s.floor.isNew() {
			return s.judge(&r, at)
		}
		if r.exported {
			return refuse(ErrExported, "it was at %v", r.mark)
		}
		before := s.floor
		s.found()
		next := r
		if next.mark = joined(r.mark, s.c.Signed); next.mark.Equal(r.mark) {
			return s.settle(ctx, r, at)
		}
		s.cur, s.base = r, at
		if won, err := s.swap(ctx, next); won || err != nil {
			return err
		}
		s.floor = before // another host was quicker
	}
}

// found begins a new floor, of a new writer, where the engine stands.
func (s *Store) found() {
	s.floor = floor{}
	s.floor.reach(s.reached)
	s.floor.position.Medium = s.reached.Medium
	s.random(s.floor.writer[:])
}

// Export ends the mark for all signers, and returns what it held. Again it returns the
// same: the first one may have been cut off before anybody saw it. On another host than
// that which ended it, it is ErrExported: two that go on from one export would sign against
// each other.
func Export(ctx context.Context, c Config) (watermark.Saved, error) {
	s := New(c)
	err := s.change(ctx, func(r *record) (bool, error) {
		if r.exported && r.writer.floor != s.floor.writer {
			return false, refuse(ErrExported, "another host exported it, at %v", r.mark)
		}
		changes := !r.exported
		r.exported = true
		return changes, nil
	})
	if err != nil {
		return watermark.Saved{}, explain("export", err)
	}
	return s.cur.saved(), nil
}

// Raise moves the mark up to one from elsewhere, written at to.Time (the zero time is now;
// the version is ignored). It never lowers: ErrBelow. It brings an exported one back to
// life, with a mark at or above it, also for a host that has not joined: it does so with that.
//
// Two marks of the same height, round and step with different sign bytes become one
// without any, so that neither is signed again.
func Raise(ctx context.Context, c Config, to watermark.Saved) error {
	s := New(c)
	if to.Time.IsZero() {
		to.Time = s.now()
	}
	if err := s.joinEnded(ctx); err != nil {
		return explain("raise", err)
	}
	return explain("raise", s.change(ctx, func(r *record) (bool, error) {
		switch {
		case to.Mark.Less(r.mark):
			return false, refuse(ErrBelow, "%v, the mark is at %v", to.Mark, r.mark)
		case to.Mark.Equal(r.mark) && !r.exported:
			return false, nil
		case r.mark.Less(to.Mark):
			r.time = to.Time.UnixNano()
		}
		r.mark, r.exported = joined(to.Mark, r.mark), false
		return true, nil
	}))
}

// joinEnded makes the floor of a host that has none out of an exported mark, which one at
// or above it may bring back to life.
func (s *Store) joinEnded(ctx context.Context) error {
	if err := s.openFloor(ctx); err != nil || !s.floor.isEmpty() {
		return err
	}
	s.trusts = true // as who joins
	at, err := s.read(ctx)
	if err != nil {
		return err
	}
	r, err := s.open(at)
	if err != nil || !r.exported {
		return err // who changes it says that this host has to join
	}
	s.found()
	return s.settle(ctx, r, at)
}

// change lets f change the record, whatever signers do meanwhile.
func (s *Store) change(ctx context.Context, f func(r *record) (changes bool, err error)) error {
	for {
		at, err := s.read(ctx)
		if err == nil {
			err = s.take(ctx, at)
		}
		if err != nil && !errors.Is(err, ErrExported) {
			return err
		}
		next := s.cur
		changes, err := f(&next)
		if err != nil || !changes {
			return err
		}
		if won, err := s.swap(ctx, next); won || err != nil {
			return err
		}
	}
}

// Adopt takes a restored mark back into use. It is for an operator who has seen to it that
// the database is the one to go on with, that every signer of the key is stopped, and that
// this host is the one whose floor (Info.Known) is the highest: the first that adopts goes
// on from what it knows, and would sign again what another host has signed above that.
//
// The mark gets a new lineage, at the highest of what is there and what this host has seen,
// so that every other host refuses it until its operator has said the same there, also where
// this host has seen nothing but other members: that may be all that it can see of a restore. It
// may raise the mark further; so does Config.Signed. This host gets a new floor, and a new identity. One that was exported
// stays dead: ErrExported.
func Adopt(ctx context.Context, c Config) error { return explain("adopt", New(c).adopt(ctx)) }

func (s *Store) adopt(ctx context.Context) error {
	s.trusts = true
	for {
		at, err := s.read(ctx)
		if err != nil {
			return err
		}
		r, problem := s.open(at)
		switch {
		case s.floor.isEmpty():
			return cmp.Or(problem, refuse(ErrUnjoined, "it is at %v", r.mark))
		case problem == nil:
			problem = s.judge(&r, at)
		case at.Value != nil || s.floor.pending:
			return problem
		}
		before, next := s.floor, s.adopted(r, problem)
		if next.id = s.c.ID; !next.exported {
			next.mark = joined(next.mark, s.c.Signed)
		}
		s.found()
		s.cur, s.base = next, at
		won := next.lineage == r.lineage && next.exported == r.exported && next.mark.Equal(r.mark)
		if won {
			err = s.settle(ctx, r, at)
		} else {
			won, err = s.swap(ctx, next)
		}
		switch {
		case err == nil && !won: // another host was quicker
			s.floor = before
			continue
		case err == nil && next.exported:
			err = refuse(ErrExported, "it was at %v", next.mark)
		}
		return err
	}
}

// adopted returns r, which Load refuses for a problem, as Adopt puts it there: after what
// this host has seen. r may be the zero record, where there is none.
func (s *Store) adopted(r record, problem error) record {
	f := &s.floor
	if !errors.Is(problem, ErrRestored) {
		return r
	}
	if other := r.lineage != f.lineage && r.seq > 0; other && f.mark.Less(r.mark) {
		return r // adopted elsewhere, above all that this host knows
	} else if !other {
		s.random(r.lineage[:])
	}
	if r.mark.Less(f.mark) {
		r.time = s.now().UnixNano()
	}
	if r.nonce != f.nonce {
		r.mark = joined(r.mark, f.mark)
	}
	r.seq, r.exported = max(r.seq, f.seq), r.exported || f.exported
	return r
}
