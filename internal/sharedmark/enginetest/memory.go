// Package enginetest holds an engine in memory that fails on purpose, and the suite that
// every [sharedmark.Engine] passes. It is for tests alone.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"privyseal/internal/sharedmark"
)

// Outcome is what becomes of one call of Ready, Read or Swap.
type Outcome int

const (
	// OK is the outcome of a call that no script covers.
	OK Outcome = iota
	// NotSent fails, has changed nothing, and says so.
	NotSent
	// Before fails, and has changed nothing.
	Before
	// After fails, and has done it all the same.
	After
	// Late fails, and is done after the next call of any engine on the database.
	Late
	// SilentBefore does not answer until the context ends, and changes nothing.
	SilentBefore
	// SilentAfter does it, and does not answer until the context ends.
	SilentAfter
	// Refused fails with what would be the same on every way.
	Refused
)

// ErrFake is what a [Memory] fails with.
var ErrFake = errors.New("the fake engine failed on purpose")

// Database is what several engines share.
type Database struct {
	mu   sync.Mutex
	now  sharedmark.At
	pos  sharedmark.Position
	late []func()
	life int // rises with each restore
}

// NewDatabase returns an empty one of three members.
func NewDatabase() *Database {
	d := &Database{}
	d.pos = sharedmark.Position{Medium: [16]byte{'m', 'e', 'd', 'i', 'u', 'm'}, Index: 7, Revision: 1, Term: 2, Members: []uint64{1, 2, 3}}
	return d
}

// At returns what is there.
func (d *Database) At() sharedmark.At {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// Snapshot is a backup of a [Database].
type Snapshot struct {
	now      sharedmark.At
	revision uint64
}

// Snapshot returns a backup.
func (d *Database) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Snapshot{d.now, d.pos.Revision}
}

// Restore puts a backup back, as etcd does it: of the position the index alone falls. The
// ways of all engines are broken. change may change more of the position; nil: nothing.
func (d *Database) Restore(s Snapshot, change func(*sharedmark.Position)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now, d.pos.Revision, d.pos.Index, d.late = s.now, s.revision, 7, nil
	d.life++
	if change != nil {
		change(&d.pos)
	}
}

// Put sets the value, as another program would: nil deletes it.
func (d *Database) Put(value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(value)
}

func (d *Database) put(value []byte) {
	d.pos.Index++
	d.pos.Revision++
	d.now = sharedmark.At{Value: value}
	if value != nil {
		d.now = sharedmark.At{Value: slices.Clone(value), Revision: d.pos.Revision}
	}
}

func (d *Database) swap(old sharedmark.At, value []byte) (sharedmark.At, bool) {
	d.pos.Index++ // a swap that is lost is in the log too
	if old.Revision != d.now.Revision || !bytes.Equal(old.Value, d.now.Value) {
		return d.now, false
	}
	d.put(value)
	return d.now, true
}

// Memory is an engine on a [Database]. Script and Calls may be called at any time.
type Memory struct {
	DB *Database

	mu     sync.Mutex
	script []Outcome
	calls  int
	open   bool
	life   int // of the database when the way was made
}

// Script sets what becomes of the next calls of Ready, Read and Swap, in their order.
func (m *Memory) Script(outcomes ...Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = outcomes
}

// Calls returns how often Ready, Read and Swap were called.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Cut ends the way: the next Ready is a fresh one.
func (m *Memory) Cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = false
}

// call does f as the script has it. f is called with the database locked. On a broken way
// it fails.
func (m *Memory) call(ctx context.Context, broken bool, f func()) error {
	m.mu.Lock()
	m.calls++
	o := OK
	if len(m.script) > 0 {
		o, m.script = m.script[0], m.script[1:]
	}
	if o == OK && broken {
		o = Before
	}
	if o != OK && o != Refused {
		m.open = false
	}
	m.mu.Unlock()

	m.DB.mu.Lock()
	late := m.DB.late
	m.DB.late = nil
	switch o {
	case OK, After, SilentAfter:
		if ctx.Err() == nil {
			f()
		}
	case Late:
		m.DB.late = append(m.DB.late, f)
	}
	for _, f := range late {
		f()
	}
	m.DB.mu.Unlock()

	switch o {
	case NotSent:
		return errors.Join(ErrFake, sharedmark.ErrNotSent)
	case Refused:
		return errors.Join(ErrFake, sharedmark.ErrNotSent, sharedmark.ErrRefused)
	case Before, After, Late:
		return ErrFake
	case SilentBefore, SilentAfter:
		<-ctx.Done()
	}
	return ctx.Err()
}

// broken reports whether the way is one to a database that was restored since.
func (m *Memory) broken() bool {
	m.DB.mu.Lock()
	defer m.DB.mu.Unlock()
	return m.life != m.DB.life
}

// Ready implements [sharedmark.Engine]. That a way is broken it does not notice.
func (m *Memory) Ready(ctx context.Context) (p sharedmark.Position, fresh bool, err error) {
	life := 0
	err = m.call(ctx, false, func() { p, life = m.DB.pos, m.DB.life })
	if err != nil {
		return sharedmark.Position{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open {
		return sharedmark.Position{}, false, nil
	}
	m.open, m.life = true, life
	p.Members = slices.Clone(p.Members)
	return p, true, nil
}

// Read implements [sharedmark.Engine].
func (m *Memory) Read(ctx context.Context) (at sharedmark.At, err error) {
	err = m.call(ctx, m.broken(), func() { at = m.DB.now })
	if err != nil {
		return sharedmark.At{}, err
	}
	return at, nil
}

// Swap implements [sharedmark.Engine].
func (m *Memory) Swap(ctx context.Context, old sharedmark.At, value []byte) (now sharedmark.At, won bool, err error) {
	err = m.call(ctx, m.broken(), func() { now, won = m.DB.swap(old, value) })
	if err != nil {
		return sharedmark.At{}, false, err
	}
	return now, won, nil
}

// Close implements [sharedmark.Engine].
func (m *Memory) Close() error {
	m.Cut()
	return nil
}
