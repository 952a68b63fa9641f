// Package storetest holds the suite that every [watermark.Store] passes, and a
// store that fails on purpose. It is for tests alone.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// maxSignBytes is what every store takes: more than any canonical message has
// (a proposal with a chain id of 50 bytes and all numbers at their longest).
const maxSignBytes = 190

// Run tests one store at a time. open returns a store on a new state that holds
// the zero mark; Run closes it.
func Run(t *testing.T, open func(t *testing.T) watermark.Store) {
	for name, test := range map[string]func(t *testing.T, s watermark.Store){
		"load is idempotent":           loadIdempotent,
		"replace then load":            replaceThenLoad,
		"no replace before a load":     noReplaceBeforeLoad,
		"stale old is ErrMoved":        staleOld,
		"an error poisons until load":  errorPoisons,
		"never goes back":              neverGoesBack,
		"versions never repeat":        versionsNeverRepeat,
		"context ended":                contextEnded,
		"marks come back as they were": marksComeBack,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			test(t, s)
		})
	}
}

// RunShared tests two stores on one state, for backends that allow it. open
// returns two open stores on a new state that holds the zero mark; RunShared
// closes them.
func RunShared(t *testing.T, open func(t *testing.T) (a, b watermark.Store)) {
	t.Run("the loser of a race gets an error", func(t *testing.T) {
		a, b := open(t)
		defer a.Close()
		defer b.Close()
		oldA, oldB := load(t, a), load(t, b)
		won := replace(t, a, oldA, at(1))
		if _, err := b.Replace(t.Context(), oldB, at(1)); !errors.Is(err, watermark.ErrMoved) {
			t.Fatalf("the second Replace of the same mark: %v, want ErrMoved", err)
		}
		if got := load(t, b); !same(got, won) {
			t.Fatalf("the loser loads %+v, the winner wrote %+v", got, won)
		}
	})
	t.Run("each mark has one writer", func(t *testing.T) {
		a, b := open(t)
		defer a.Close()
		defer b.Close()
		const height = 50
		var wg sync.WaitGroup
		var won [2][]int64
		for i, s := range []watermark.Store{a, b} {
			wg.Go(func() { won[i] = climb(t, s, height) })
		}
		wg.Wait()
		writers := map[int64]int{}
		for _, h := range append(won[0], won[1]...) {
			writers[h]++
		}
		for h := int64(1); h <= height; h++ {
			if writers[h] != 1 {
				t.Errorf("height %d was written %d times", h, writers[h])
			}
		}
	})
}

// climb writes height after height in competition with others, and returns
// those that it wrote.
func climb(t *testing.T, s watermark.Store, top int64) (won []int64) {
	for {
		old, err := s.Load(t.Context())
		if err != nil {
			t.Errorf("Load: %v", err)
			return won
		}
		h := old.Mark.Height + 1
		if h > top {
			return won
		}
		switch _, err := s.Replace(t.Context(), old, at(h)); {
		case err == nil:
			won = append(won, h)
		case !errors.Is(err, watermark.ErrMoved):
			t.Errorf("Replace: %v", err)
			return won
		}
	}
}

func loadIdempotent(t *testing.T, s watermark.Store) {
	first := load(t, s)
	if !first.Mark.IsZero() {
		t.Fatalf("a new state is at %v", first.Mark)
	}
	if again := load(t, s); !same(first, again) {
		t.Fatalf("loaded %+v, then %+v", first, again)
	}
}

func replaceThenLoad(t *testing.T, s watermark.Store) {
	saved := load(t, s)
	for h := int64(1); h <= 5; h++ {
		before := time.Now().Add(-time.Minute)
		saved = replace(t, s, saved, at(h))
		if !saved.Mark.Equal(at(h)) {
			t.Fatalf("Replace returned %v, not the new mark %v", saved.Mark, at(h))
		}
		if saved.Time.Before(before) {
			t.Fatalf("the mark has the time %v", saved.Time)
		}
		if got := load(t, s); !same(got, saved) {
			t.Fatalf("loaded %+v, wrote %+v", got, saved)
		}
	}
}

func noReplaceBeforeLoad(t *testing.T, s watermark.Store) {
	if _, err := s.Replace(t.Context(), watermark.Saved{}, at(1)); err == nil {
		t.Fatal("Replace before the first Load succeeded")
	}
	if got := load(t, s); !got.Mark.IsZero() {
		t.Fatalf("and it wrote %v", got.Mark)
	}
}

func staleOld(t *testing.T, s watermark.Store) {
	zero := load(t, s)
	one := replace(t, s, zero, at(1))
	if _, err := s.Replace(t.Context(), zero, at(2)); !errors.Is(err, watermark.ErrMoved) {
		t.Fatalf("Replace of an old mark: %v, want ErrMoved", err)
	}
	if got := load(t, s); !same(got, one) {
		t.Fatalf("ErrMoved, and yet the mark went from %+v to %+v", one, got)
	}
	// ErrMoved is not a failure of the store.
	two := replace(t, s, one, at(2))
	if _, err := s.Replace(t.Context(), one, at(3)); !errors.Is(err, watermark.ErrMoved) {
		t.Fatalf("Replace of an old mark: %v, want ErrMoved", err)
	}
	replace(t, s, two, at(3))
}

// errorPoisons makes any store fail by ending the context.
func errorPoisons(t *testing.T, s watermark.Store) {
	saved := replace(t, s, load(t, s), at(1))
	if _, err := s.Replace(ended(t), saved, at(2)); err == nil {
		t.Fatal("Replace succeeded after its context had ended")
	}
	for range 2 {
		if _, err := s.Replace(t.Context(), saved, at(3)); err == nil || errors.Is(err, watermark.ErrMoved) {
			t.Fatalf("Replace after a failed one: %v, want an error other than ErrMoved", err)
		}
	}
	if _, err := s.Load(ended(t)); err == nil {
		t.Fatal("Load succeeded after its context had ended")
	}
	if _, err := s.Replace(t.Context(), saved, at(3)); err == nil {
		t.Fatal("a failed Load took the poison away")
	}
	now := load(t, s)
	if now.Mark.Height != 1 && now.Mark.Height != 2 {
		t.Fatalf("the mark is %v, neither old nor new", now.Mark)
	}
	replace(t, s, now, at(3))
}

func neverGoesBack(t *testing.T, s watermark.Store) {
	top := watermark.Mark{Height: 7, Round: 3, Step: watermark.StepPrevote, SignBytes: []byte("top")}
	replace(t, s, load(t, s), top)
	for _, m := range []watermark.Mark{
		top,
		{Height: 7, Round: 3, Step: watermark.StepPrevote, SignBytes: []byte("other")},
		{Height: 7, Round: 3, Step: watermark.StepProposal},
		{Height: 7, Round: 2, Step: watermark.StepPrecommit},
		{Height: 6, Round: 9, Step: watermark.StepPrecommit},
		{},
	} {
		if _, err := s.Replace(t.Context(), load(t, s), m); err == nil {
			t.Errorf("the mark went from %v to %v", top, m)
		}
		if got := load(t, s); !got.Mark.Equal(top) {
			t.Errorf("after the refused %v the mark is %v", m, got.Mark)
		}
	}
}

func versionsNeverRepeat(t *testing.T, s watermark.Store) {
	saved := load(t, s)
	seen := map[uint64]bool{saved.Version: true}
	for h := int64(1); h <= 20; h++ {
		saved = replace(t, s, saved, at(h))
		if seen[saved.Version] {
			t.Fatalf("version %d was used twice", saved.Version)
		}
		seen[saved.Version] = true
	}
}

func contextEnded(t *testing.T, s watermark.Store) {
	if _, err := s.Load(ended(t)); err == nil {
		t.Error("Load succeeded after its context had ended")
	}
	saved := load(t, s)
	if _, err := s.Replace(ended(t), saved, at(1)); err == nil {
		t.Error("Replace succeeded after its context had ended")
	}
}

func marksComeBack(t *testing.T, s watermark.Store) {
	saved := load(t, s)
	for i, m := range []watermark.Mark{
		{Height: 1, Step: watermark.StepProposal, SignBytes: []byte{0}},
		{Height: 1, Step: watermark.StepPrevote, SignBytes: bytes.Repeat([]byte{0xff}, maxSignBytes)},
		{Height: 1, Step: watermark.StepPrecommit},
		{Height: 1, Round: 1<<31 - 1, Step: watermark.StepPrecommit, SignBytes: make([]byte, maxSignBytes)},
		watermark.Floor(1 << 40),
		{Height: 1<<63 - 1, Round: 1<<31 - 1, Step: watermark.StepPrecommit, SignBytes: []byte("end")},
	} {
		saved = replace(t, s, saved, m)
		got := load(t, s)
		if !got.Mark.Equal(m) || (got.Mark.SignBytes == nil) != (m.SignBytes == nil) {
			t.Errorf("mark %d: wrote %+v, loaded %+v", i, m, got.Mark)
		}
	}
}

// at returns the prevote of round 0 at height.
func at(height int64) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte{byte(height), 1, 2, 3}}
}

func same(a, b watermark.Saved) bool {
	return a.Version == b.Version && a.Mark.Equal(b.Mark) && a.Time.Equal(b.Time)
}

func load(t *testing.T, s watermark.Store) watermark.Saved {
	t.Helper()
	saved, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return saved
}

func replace(t *testing.T, s watermark.Store, old watermark.Saved, m watermark.Mark) watermark.Saved {
	t.Helper()
	saved, err := s.Replace(t.Context(), old, m)
	if err != nil {
		t.Fatalf("Replace by %v: %v", m, err)
	}
	return saved
}

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
