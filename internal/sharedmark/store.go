// Package sharedmark keeps one mark for several signers on several hosts, in a database
// that all of them reach: a [watermark.Store] over an [Engine].
//
// Each signer compares and swaps the whole value. The value has a random nonce, so a
// swap that was sent can be sent again, and whoever reads the value knows whether it was
// done. What the outcome of a swap is, is never guessed.
//
// The database may be restored from a backup. Therefore each host keeps a floor, in a store
// of its own: what it has seen of the mark, and where the database stood then. The
// floor is raised after the database has acknowledged a mark, and before that mark is
// signed; what is below it is refused ([ErrRestored]) until an operator has looked and said
// so ([Adopt]). And the database has to show on each new connection that it is not behind
// the floor, before anything is swapped there: the value that a signer remembers may be
// the very one that was restored.
//
// What is trusted: that the engine keeps its contract, and that whoever runs the database
// does not set it back in a way that leaves no trace. With a MAC under a key that the
// signers share, nobody else can make a mark; an old one is still authentic. What one
// floor does not see is a database restored while its own host was off or idle, if the
// database has by then done more than the host had seen of it before.
package sharedmark

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/watermark"
)

// Config says which mark is meant, for one use. ID, Engine and Floor are required.
type Config struct {
	ID watermark.ID
	// Engine has no way yet. The Store becomes its only user.
	Engine Engine
	// Floor keeps the floor of this host, under FloorID. A new one holds a height alone,
	// which is a counter that rises: the host has not joined. The Store becomes its only user.
	Floor watermark.Store
	// Signed is the highest mark that this host has signed with a state of another kind, for Join and
	// Adopt to begin above.
	Signed watermark.Mark
	// Seen, if there is one, is called with each mark that the floor was raised to, ours before it is
	// signed, and whether it is exported.
	Seen func(saved watermark.Saved, exported bool)
	// MAC authenticates the records. All signers of a mark have the same key, or none.
	MAC *[32]byte
}

// FloorID returns what the floor is kept under, in whatever store. It is not the mark's own
// ID: a host may have had the state of the key in a file before.
func (c Config) FloorID() watermark.ID {
	return watermark.ID{ChainID: c.ID.ChainID, Key: sha256.Sum256(append([]byte("privyseal floor 1\x00"), c.ID.Key[:]...))}
}

// patience is for how long a call is tried again, if its context does not end before.
const patience = 5 * time.Second

// keepLost is how long a value that came with a lost swap stands for what is there.
const keepLost = time.Second

// Store is a shared mark. It is a [watermark.Store].
type Store struct {
	c       Config
	process [8]byte
	pause   func(ctx context.Context, n int)
	random  func([]byte) (int, error)
	now     func() time.Time

	kept  watermark.Saved // what the floor's store holds
	known bool            // kept is known
	floor floor           // kept, or above it

	reached Position // of the present way
	fenced  bool     // reached has passed the fence
	trusts  bool     // an operator takes what is there: no fence

	ready  bool // cur and base are what the engine has, or had
	cur    record
	base   At
	first  uint64 // the sequence of the first load; 0: none yet
	lost   At     // what came with a swap that was lost
	lostAt time.Time
}

var _ watermark.Store = (*Store)(nil)

// New returns a store that has asked for nothing yet.
func New(c Config) *Store {
	s := &Store{c: c, pause: pause, random: rand.Read, now: time.Now}
	s.random(s.process[:])
	return s
}

// pause waits before try n, which comes after as many that failed. The first two follow at
// once: one member may be gone.
func pause(ctx context.Context, n int) {
	if n < 2 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(time.Duration(n)*5*time.Millisecond, 50*time.Millisecond)):
	}
}

// Load implements [watermark.Store]. The error is an *[Error].
func (s *Store) Load(ctx context.Context) (watermark.Saved, error) {
	s.ready = false
	at, err := s.read(ctx)
	if err == nil {
		err = s.take(ctx, at)
	}
	if err != nil {
		return watermark.Saved{}, explain("load", err)
	}
	s.ready = true
	return s.cur.saved(), nil
}

// read returns the value as it is there.
func (s *Store) read(ctx context.Context) (at At, err error) {
	if err := ctx.Err(); err != nil {
		return At{}, err
	}
	if err := s.openFloor(ctx); err != nil {
		return At{}, err
	}
	lost := s.lost
	if s.lost = (At{}); lost.Value != nil && s.now().Sub(s.lostAt) < keepLost {
		return lost, nil
	}
	err = s.insist(ctx, func() (err error) {
		at, err = s.c.Engine.Read(ctx)
		return err
	})
	return at, err
}

// openFloor loads the floor, unless it is known.
func (s *Store) openFloor(ctx context.Context) error {
	if s.known {
		return nil
	}
	kept, err := s.c.Floor.Load(ctx)
	if err != nil {
		return fmt.Errorf("the floor of this host: %w", err)
	}
	f, err := decodeFloor(kept.Mark)
	if err != nil {
		return err
	}
	if kept.Mark.Less(s.kept.Mark) {
		return refuse(ErrRestored, "the floor of this host went back from %d to %d", s.kept.Mark.Height, kept.Mark.Height)
	}
	if s.floor.isEmpty() {
		s.floor = f // else ours is that, or above it
	}
	s.kept, s.known = kept, true
	return nil
}

// keepFloor makes the floor durable, if it has changed.
func (s *Store) keepFloor(ctx context.Context) error {
	now := s.floor.encode()
	if bytes.Equal(now, s.kept.Mark.SignBytes) {
		return nil
	}
	m := watermark.Mark{Height: s.kept.Mark.Height + 1, Step: watermark.StepPrecommit, SignBytes: now}
	kept, err := s.c.Floor.Replace(ctx, s.kept, m)
	if err != nil {
		s.known = false
		if errors.Is(err, watermark.ErrMoved) {
			return refuse(ErrTwin, "somebody else moved the floor of this host")
		}
		return fmt.Errorf("the floor of this host: %w", err)
	}
	s.kept = kept
	return nil
}

// insist calls f on one way after the other, each of which has passed the fence, until f
// returns no error, or one that is final. If time is up, the error is the most telling one:
// that a member did not answer in time says less than what another has answered, or the
// same one before.
func (s *Store) insist(ctx context.Context, f func() error) error {
	var first error
	for n, start := 1, s.now(); ; n++ {
		err := s.reach(ctx)
		if err == nil {
			err = f()
		}
		if _, final := errors.AsType[*fault](err); err == nil || final || errors.Is(err, ErrRefused) {
			return err
		}
		over := ended(ctx) // then this try did not have its time
		if first == nil || !over && !errors.Is(err, context.DeadlineExceeded) {
			first = err
		}
		if over || s.now().Sub(start) > patience {
			return first
		}
		s.pause(ctx, n)
	}
}

// ended reports whether a context has ended. A dial notices its deadline a moment before the
// context itself does.
func ended(ctx context.Context) bool {
	until, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(until)
}

// reach makes sure that there is a way to the value, on which the engine is not behind
// what this host has seen. What a signer remembers may be what somebody restored: without
// this its swap would succeed.
func (s *Store) reach(ctx context.Context) error {
	p, fresh, err := s.c.Engine.Ready(ctx)
	if err != nil {
		return err
	}
	if fresh {
		s.reached, s.fenced = p, false
	}
	if s.fenced {
		return nil
	}
	err = s.floor.elsewhere(s.reached)
	if err == nil && s.trusts {
		return nil
	}
	if err == nil {
		err = s.floor.fence(s.reached)
	}
	if err != nil {
		s.c.Engine.Close() // the next call takes another way
		return err
	}
	s.floor.reach(s.reached)
	s.fenced = true
	return nil
}

// open decodes a value, and returns ErrMissing where there is none.
func (s *Store) open(at At) (record, error) {
	if at.Value == nil && !s.floor.isNew() {
		return record{}, refuse(ErrRestored, "there is none; this host has seen record %d at %v", s.floor.seq, s.floor.mark)
	}
	if at.Value == nil {
		return record{}, refuse(ErrMissing, "")
	}
	r, err := decode(at.Value, s.c.MAC)
	if err == nil {
		err = r.own(s.c.ID)
	}
	return r, err
}

// take judges a value and makes it the current one, exported ones too: those it returns
// with ErrExported. The floor is raised before.
func (s *Store) take(ctx context.Context, at At) error {
	r, err := s.open(at)
	if err != nil {
		return err
	}
	if s.floor.isEmpty() {
		return refuse(ErrUnjoined, "it is at %v", r.mark)
	}
	if err := s.floor.accept(&r, at.Revision); err != nil {
		return err
	}
	if err := s.alone(&r); err != nil {
		return err
	}
	if err := s.settle(ctx, r, at); err != nil {
		return err
	}
	if r.exported {
		return refuse(ErrExported, "it was at %v", r.mark)
	}
	return nil
}

// alone returns ErrTwin if another process writes with a floor that has our identity. One
// swap of an earlier process may have come late, on what this one found first.
func (s *Store) alone(r *record) error {
	if s.first == 0 {
		s.first = r.seq
	}
	if r.writer.floor == s.floor.writer && r.writer.process != s.process && r.seq > s.first+1 {
		return refuse(ErrTwin, "it wrote record %d at %v", r.seq, r.mark)
	}
	return nil
}

// settle makes r the current record, after the floor is durable above it.
func (s *Store) settle(ctx context.Context, r record, at At) error {
	s.floor.raise(&r, at.Revision)
	if err := s.keepFloor(ctx); err != nil {
		return err
	}
	s.cur, s.base = r, at
	if s.c.Seen != nil {
		s.c.Seen(r.saved(), r.exported)
	}
	return nil
}

// Replace implements [watermark.Store]. Besides [watermark.ErrMoved], which it returns as
// it is, the error is an *[Error].
func (s *Store) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if !s.ready {
		return watermark.Saved{}, explain("write", errUnloaded)
	}
	if old.Version != s.cur.seq {
		return watermark.Saved{}, watermark.ErrMoved
	}
	s.ready = false
	next := s.cur
	next.mark, next.time = m, s.now().UnixNano()
	err := ctx.Err()
	if err == nil && !s.cur.mark.Less(m) {
		err = refuse(ErrBelow, "%v, the mark is at %v", m, s.cur.mark)
	}
	won := false
	if err == nil {
		won, err = s.swap(ctx, next)
	}
	if err != nil {
		return watermark.Saved{}, explain("write", err)
	}
	s.ready = true
	if !won {
		return watermark.Saved{}, watermark.ErrMoved
	}
	return s.cur.saved(), nil
}

// swap puts next, as the next record, where the current one is, and returns after the
// floor is durable above it. If won is false, nothing was written, and lost is what is
// there. After an error the outcome is unknown.
func (s *Store) swap(ctx context.Context, next record) (won bool, err error) {
	next.seq = s.cur.seq + 1
	next.writer = writer{s.floor.writer, s.process}
	next.mac = s.c.MAC != nil
	s.random(next.nonce[:])
	if err := next.check(); err != nil {
		return false, err
	}
	value := next.encode(s.c.MAC)
	now, unknown := At{}, false
	err = s.insist(ctx, func() (err error) {
		now, won, err = s.c.Engine.Swap(ctx, s.base, value)
		unknown = unknown || err != nil && !errors.Is(err, ErrNotSent)
		return err
	})
	switch {
	case err != nil:
		return false, err
	case won || bytes.Equal(now.Value, value): // by a try whose answer was lost
		return true, s.settle(ctx, next, now)
	case unknown:
		// Ours may have been written, and have been there until somebody wrote after it.
		return false, errOutcome
	}
	s.lost, s.lostAt = now, s.now()
	return false, nil
}

// Close implements [watermark.Store].
func (s *Store) Close() error {
	s.ready = false
	return errors.Join(s.c.Engine.Close(), s.c.Floor.Close())
}

// Lineage names the init or adoption that the mark descends from, once it is loaded.
func (s *Store) Lineage() [16]byte { return s.cur.lineage }
