package sharedmark_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

// clock is the time of a store; each pause takes a second.
type clock struct{ at time.Time }

func (c *clock) set(s *sharedmark.Store) {
	s.SetClock(func() time.Time { return c.at }, func(context.Context, int) { c.at = c.at.Add(time.Second) })
}

// A call that fails on every way is tried for a while, and no longer.
func TestPatience(t *testing.T) {
	h := inMemory(t, enginetest.NewDatabase()).must(create(watermark.Mark{}))
	s, c := h.signer(), &clock{time.Unix(1000, 0)}
	c.set(s)
	fails := make([]enginetest.Outcome, 1000)
	for i := range fails {
		fails[i] = enginetest.Before
	}
	h.engine.Script(fails...)
	if _, err := s.Load(t.Context()); !errors.Is(err, enginetest.ErrFake) {
		t.Fatal(err)
	}
	if calls := h.engine.Calls(); calls < 5 || calls > 8 {
		t.Errorf("%d calls in 5 seconds of a second each", calls)
	}
	h.engine.Script()
	if _, err := s.Load(t.Context()); err != nil {
		t.Error(err)
	}
}

// says is an engine that nobody reaches, and what each try of that says; the last one again.
type says struct {
	*enginetest.Memory
	tries []error
	calls int
	last  func() // called with each try from the last one on
}

func (s *says) Ready(context.Context) (sharedmark.Position, bool, error) {
	if s.calls++; s.calls >= len(s.tries) {
		s.last()
	}
	return sharedmark.Position{}, false, s.tries[min(s.calls, len(s.tries))-1]
}

// When time is up, the error is not that somebody did not answer in time, if another try has
// said more; and what a try says that ended with the caller's own time says least.
func TestMostTelling(t *testing.T) {
	late, later := fmt.Errorf("no answer: %w", context.DeadlineExceeded), fmt.Errorf("cut off: %w", context.DeadlineExceeded)
	refused, stranger, cut := errors.New("connection refused"), errors.New("a stranger"), errors.New("cut off")
	for _, tt := range []struct {
		tries []error
		ends  bool // the caller's time, with the last of them
		want  error
	}{
		{[]error{stranger, late}, false, stranger},
		{[]error{late, stranger, late}, false, stranger},
		{[]error{refused, late, stranger, late}, false, stranger},
		{[]error{late, later}, false, late},
		{[]error{stranger, late, late}, true, stranger},
		{[]error{late, stranger, cut}, true, stranger},
		{[]error{late, later}, true, late},
		{[]error{later}, true, later},
	} {
		h := inMemory(t, enginetest.NewDatabase()).must(create(watermark.Mark{}))
		ctx, cancel := context.WithCancel(t.Context())
		c := h.config()
		c.Engine = &says{Memory: h.engine, tries: tt.tries, last: func() {
			if tt.ends {
				cancel()
			}
		}}
		s := sharedmark.New(c)
		(&clock{time.Unix(1000, 0)}).set(s)
		if _, err := s.Load(ctx); !errors.Is(err, tt.want) {
			t.Errorf("%v, ends %v: %v", tt.tries, tt.ends, err)
		}
		cancel()
	}
}

// The value that came with a lost swap is what the next load returns, unless that comes
// late; and the load after it asks.
func TestLostValue(t *testing.T) {
	for _, tt := range []struct {
		later time.Duration
		calls bool
	}{{0, false}, {900 * time.Millisecond, false}, {time.Second, true}} {
		db := enginetest.NewDatabase()
		h := inMemory(t, db).must(create(at("5")))
		s, c := h.signer(), &clock{time.Unix(1000, 0)}
		c.set(s)
		old := load(t, s)
		inMemory(t, db).must(sharedmark.Join).must(raise("9"))
		if _, err := s.Replace(t.Context(), old, at("6")); !errors.Is(err, watermark.ErrMoved) {
			t.Fatal(err)
		}
		before := h.engine.Calls()
		c.at = c.at.Add(tt.later)
		if saved := load(t, s); saved.Mark.Height != 9 {
			t.Errorf("it is at %v", saved.Mark)
		}
		if asked := h.engine.Calls() > before; asked != tt.calls {
			t.Errorf("%v later the load asks: %v", tt.later, asked)
		}
		before = h.engine.Calls()
		load(t, s)
		if h.engine.Calls() == before {
			t.Error("the second load does not ask")
		}
	}
}

// between is an engine that lets something happen before one of its swaps.
type between struct {
	*enginetest.Memory
	swap   int // which, from 1
	happen func()
}

func (b *between) Swap(ctx context.Context, old sharedmark.At, value []byte) (sharedmark.At, bool, error) {
	if b.swap--; b.swap == 0 {
		b.happen()
	}
	return b.Memory.Swap(ctx, old, value)
}

// Another host adopts while we do: then ours is of what that has made, and no lower than
// what this host has seen.
func TestAdoptAtTheSameTime(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := inMemory(t, db).must(create(at("5"))), inMemory(t, db).must(sharedmark.Join)
	snapshot := db.Snapshot()
	a.must(raise("9"))
	db.Restore(snapshot, func(p *sharedmark.Position) { p.Medium[0]++ })
	c := a.config()
	c.Engine = &between{a.engine, 1, func() { b.must(sharedmark.Adopt) }}
	if err := sharedmark.Adopt(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]*host{"a": a, "b": b} {
		if saved := load(t, h.signer()); saved.Mark.Height != 9 {
			t.Errorf("%s is at %v", name, saved.Mark)
		}
	}
}

// The answer to a swap is lost, and another signer writes before it is sent again: nobody
// knows whether ours was there in between.
func TestWrittenOver(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := inMemory(t, db).must(create(at("5"))), inMemory(t, db).must(sharedmark.Join)
	c := a.config()
	c.Engine = &between{a.engine, 2, func() { b.must(raise("7")) }}
	s := sharedmark.New(c)
	old := load(t, s)
	a.engine.Script(enginetest.OK, enginetest.After)
	_, err := s.Replace(t.Context(), old, at("6"))
	if err == nil || errors.Is(err, watermark.ErrMoved) || !strings.Contains(err.Error(), "outcome") {
		t.Fatal(err)
	}
	if _, err := s.Replace(t.Context(), old, at("8")); err == nil || errors.Is(err, watermark.ErrMoved) {
		t.Errorf("without a load: %v", err)
	}
	if saved := load(t, s); saved.Mark.Height != 7 {
		t.Errorf("it is at %v", saved.Mark)
	}
}

func raise(height string) func(context.Context, sharedmark.Config) error {
	return func(ctx context.Context, c sharedmark.Config) error {
		return sharedmark.Raise(ctx, c, watermark.Saved{Mark: at(height)})
	}
}

func load(t *testing.T, s *sharedmark.Store) watermark.Saved {
	t.Helper()
	saved, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return saved
}
