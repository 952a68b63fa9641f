package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"privyseal/internal/watermark"
)

// Outcome is what becomes of one call to a [Fake].
type Outcome int

const (
	// OK is the outcome of a call that no script covers.
	OK Outcome = iota
	// Before fails, and has changed nothing.
	Before
	// After fails, and has written the mark all the same.
	After
	// Late fails, and the mark is written behind the back of the next Load, just
	// after that has answered.
	Late
	// SilentBefore does not answer until the context ends, and changes nothing.
	SilentBefore
	// SilentAfter writes the mark and does not answer until the context ends.
	SilentAfter
)

// ErrFake is what a [Fake] fails with.
var ErrFake = errors.New("the fake store failed on purpose")

// Fake is a store in memory that keeps the contract and fails on purpose. Load,
// Replace and Close are for one goroutine at a time, as the contract has it: no
// lock hides from the race detector who breaks that. The other methods may be
// called at any time.
type Fake struct {
	mem    *memory
	ready  bool
	late   *write
	closed bool

	mu     sync.Mutex
	script []Outcome
	calls  int
}

// memory is what several fakes may share.
type memory struct {
	mu    sync.Mutex
	saved watermark.Saved
}

type write struct {
	old uint64
	m   watermark.Mark
}

// NewFake returns a store on a state of its own that holds m.
func NewFake(m watermark.Mark) *Fake {
	return &Fake{mem: &memory{saved: watermark.Saved{Mark: m, Version: 1, Time: time.Now()}}}
}

// Another returns a second store on the same state.
func (f *Fake) Another() *Fake { return &Fake{mem: f.mem} }

// Script sets what becomes of the next calls of Load and Replace, in their
// order. Loads take no harm from After and Late but the error.
func (f *Fake) Script(outcomes ...Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = outcomes
}

// Calls returns how often Load and Replace were called.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Saved returns what the state holds, whatever the store has reported.
func (f *Fake) Saved() watermark.Saved {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return f.mem.saved
}

// Put sets the mark behind everybody's back, lower ones too: a restored backup.
func (f *Fake) Put(m watermark.Mark) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.mem.put(m)
}

func (mem *memory) put(m watermark.Mark) {
	mem.saved = watermark.Saved{Mark: m, Version: mem.saved.Version + 1, Time: time.Now()}
}

// swap is the compare-and-swap.
func (mem *memory) swap(w write) (watermark.Saved, error) {
	mem.mu.Lock()
	defer mem.mu.Unlock()
	switch {
	case mem.saved.Version != w.old:
		return watermark.Saved{}, watermark.ErrMoved
	case !mem.saved.Mark.Less(w.m):
		return watermark.Saved{}, errors.New("the mark is not above the old one")
	}
	mem.put(w.m)
	return mem.saved, nil
}

func (f *Fake) next() Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if len(f.script) == 0 {
		return OK
	}
	o := f.script[0]
	f.script = f.script[1:]
	return o
}

// Load implements [watermark.Store].
func (f *Fake) Load(ctx context.Context) (watermark.Saved, error) {
	f.ready = false
	if err := f.fail(ctx, f.next()); err != nil {
		return watermark.Saved{}, err
	}
	saved := f.Saved()
	if f.late != nil {
		f.mem.swap(*f.late) // if others were faster, it is lost
		f.late = nil
	}
	f.ready = true
	return saved, nil
}

// Replace implements [watermark.Store].
func (f *Fake) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	o := f.next()
	if !f.ready {
		return watermark.Saved{}, errors.New("the fake store was not loaded since it failed")
	}
	w := write{old: old.Version, m: m}
	switch o {
	case After, SilentAfter:
		f.mem.swap(w)
	case Late:
		f.late = &w
	}
	if err := f.fail(ctx, o); err != nil {
		f.ready = false
		return watermark.Saved{}, err
	}
	saved, err := f.mem.swap(w)
	f.ready = err == nil || errors.Is(err, watermark.ErrMoved)
	return saved, err
}

// fail returns the error of o, if any, when it is time for it.
func (f *Fake) fail(ctx context.Context, o Outcome) error {
	switch o {
	case Before, After, Late:
		return ErrFake
	case SilentBefore, SilentAfter:
		<-ctx.Done()
	}
	if f.closed {
		return errors.New("the fake store was closed")
	}
	return ctx.Err()
}

// Close implements [watermark.Store].
func (f *Fake) Close() error {
	f.closed = true
	return nil
}
