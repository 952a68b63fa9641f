package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"privyseal/internal/key/yubihsm/auditlog"
	hsm "privyseal/yubihsm"
)

// clerk drains the log of one device into files, on a goroutine of its own: files may hang,
// and signing must not.
type clerk struct {
	folder string
	d      *device
	note   func(error)     // hears that the device failed, or is back
	keys   func() []uint16 // that we sign with
	jobs   chan job
	wakes  chan struct{} // holds an element when there is much to drain

	mu      sync.Mutex
	book    *book   // of the device that is there; nil: we have not signed yet
	left    []*book // of devices that were there before
	pending int     // signatures since the log was drained

	// What follows is the goroutine's.
	ctx     context.Context
	alarm   alarm
	done    time.Time // when the log was read last
	crowded bool      // it was half full then
}

// job is something to do at once.
type job struct {
	drain bool // beside beginning
	done  chan error
}

const (
	// drainAfter signatures the log is drained, and after drainUrgent also if others have to
	// wait for that.
	drainAfter  = 16
	drainUrgent = 24
	// drainPause is how long entries stay on the device that are fewer.
	drainPause = 20 * time.Second
	// beginTime is how long the first signature waits for the disk, and stopTime how long
	// the end of the process does.
	beginTime = 500 * time.Millisecond
	stopTime  = 2 * time.Second
)

func newClerk(folder string, d *device, log *slog.Logger, note func(error), keys func() []uint16) *clerk {
	return &clerk{folder: folder, d: d, note: note, keys: keys, jobs: make(chan job), wakes: make(chan struct{}, 1), alarm: alarm{d: d, log: log}}
}

// run works until ctx ends. A disk that hangs is given up on then.
func (c *clerk) run(ctx context.Context) {
	c.ctx = ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.work(ctx)
		c.stop()
	}()
	<-ctx.Done()
	select {
	case <-done:
	case <-time.After(stopTime):
	}
}

// work drains the log when it is time, and does jobs, until ctx ends.
func (c *clerk) work(ctx context.Context) {
	tick := time.NewTicker(c.d.times.tend)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-c.jobs:
			j.done <- c.do(j)
			continue
		case <-tick.C:
		case <-c.wakes:
		}
		if c.isTime() {
			c.drain(ctx)
		}
	}
}

func (c *clerk) do(j job) error {
	if j.drain {
		return c.drain(c.ctx)
	}
	err := c.begin()
	if err != nil {
		c.alarm.drained(err, nil)
	}
	return err
}

// ask has the clerk do something, and waits for it until ctx ends.
func (c *clerk) ask(ctx context.Context, drain bool) error {
	j := job{drain, make(chan error, 1)}
	select {
	case c.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isTime reports whether the log is to be drained now. A process that stands by, and has
// signed nothing yet, leaves the log to the one that signs.
func (c *clerk) isTime() bool {
	c.mu.Lock()
	b, n := c.book, c.pending
	c.mu.Unlock()
	if failed := c.d.failed(); b == nil || failed != nil && !isLogFull(failed) {
		return false // what is away others find again
	}
	switch {
	case c.alarm.problem != nil || c.crowded || n >= drainUrgent:
		return true
	case n >= drainAfter:
		return len(c.d.turn) == 0 // nobody has to wait
	}
	return time.Since(c.done) >= drainPause
}

// opened returns the book of the device that is there, and whether it is new to us.
func (c *clerk) opened() (b *book, isNew bool) {
	serial := c.d.info().Serial
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.book != nil && c.book.name.serial == serial {
		return c.book, false
	}
	if c.book != nil {
		c.left = append(c.left, c.book)
	}
	c.book = takeBook(bookName{c.folder, serial})
	return c.book, true
}

// sign counts a signature that the device is asked for by f. Before the first one it is made
// durable that we sign: else nobody could tell, after a crash, that it may have been us.
// The caller has its turn with the device, and a session.
func (c *clerk) sign(ctx context.Context, a auditlog.Ask, f func() error) error {
	b, isNew := c.opened()
	if isNew {
		ctx, cancel := context.WithTimeout(ctx, beginTime)
		c.ask(ctx, false) // what fails is said, and tried again
		cancel()
	}
	asking := b.ask(a)
	err := f()
	b.answered(asking, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending++; c.pending == drainAfter || c.pending >= drainUrgent {
		select {
		case c.wakes <- struct{}{}:
		default:
		}
	}
	return err
}

// relieve drains a log that is full, and reports whether there is room again.
func (c *clerk) relieve(ctx context.Context, err error) bool {
	return isLogFull(err) && c.ask(ctx, true) == nil
}

// begin makes durable that we sign.
func (c *clerk) begin() error {
	c.mu.Lock()
	b, left := c.book, c.left
	c.left = nil
	c.mu.Unlock()
	for _, old := range left {
		old.giveBack()
	}
	switch {
	case b == nil:
		return errors.New("this process has not signed with the device")
	case b.name.serial == 0:
		return errors.New("the device does not say its serial number while its log is full")
	}
	b.files.Lock()
	defer b.files.Unlock()
	return b.begin(c.d.authKey)
}

// drain makes durable what the device has logged, and has it forget that.
func (c *clerk) drain(ctx context.Context) error {
	found, err := c.drained(ctx)
	if err == nil || c.ctx.Err() == nil { // what fails at the end is no news
		c.alarm.drained(err, found)
	}
	return err
}

func (c *clerk) drained(ctx context.Context) (found []auditlog.Finding, err error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	b := c.book
	c.mu.Unlock()
	b.files.Lock()
	defer b.files.Unlock()
	log, asked, err := c.look(ctx, b)
	if err != nil {
		return nil, err
	}
	if err := b.begin(c.d.authKey); err != nil {
		return nil, err
	}
	found, err = b.append(auditlog.Batch{Time: time.Now(), Log: log, Asked: asked, Keys: c.keys()})
	if err != nil || len(log.Entries) == 0 {
		return found, err
	}
	return found, c.forget(ctx, log.Entries[len(log.Entries)-1].Number)
}

// look reads the log, and what was asked for up to then.
func (c *clerk) look(ctx context.Context, b *book) (log hsm.Log, asked []auditlog.Asked, err error) {
	err = c.use(ctx, func(ctx context.Context, s *hsm.Session) (err error) {
		if c.d.info().Serial != b.name.serial {
			return errOther
		}
		log, err = s.LogEntries(ctx)
		return err
	}, func() { asked = b.count() })
	if err != nil {
		return hsm.Log{}, nil, fmt.Errorf("cannot read it: %w", err)
	}
	c.mu.Lock()
	c.pending = 0
	c.mu.Unlock()
	c.done, c.crowded = time.Now(), 2*len(log.Entries) >= logSize
	c.alarm.has(len(log.Entries))
	return log, asked, nil
}

var errOther = errors.New("another device is there")

// forget has the device forget entries that are durable.
func (c *clerk) forget(ctx context.Context, number uint16) error {
	err := c.use(ctx, func(ctx context.Context, s *hsm.Session) error { return s.SetLogIndex(ctx, number) }, func() {})
	var refused *hsm.DeviceError
	if errors.As(err, &refused) && refused.Code == hsm.InvalidData {
		return nil // somebody else had it forget them
	}
	if err != nil {
		return fmt.Errorf("cannot have the device forget what is saved: %w", err)
	}
	c.alarm.has(0)
	return nil
}

// use has its turn with the device. What a session breaks with is said as of any other use.
// done is called before others have their turn, if all went well.
func (c *clerk) use(ctx context.Context, f func(context.Context, *hsm.Session) error, done func()) error {
	return c.d.do(ctx, func() bool { return false }, f, func(err error) {
		var refused *hsm.DeviceError
		switch {
		case err == nil:
			done()
		case !errors.As(err, &refused) && err != errOther && ctx.Err() == nil:
			c.note(fmt.Errorf("the YubiHSM at %s: %w", c.d.address, err))
		}
	})
}

// stop drains the log a last time and makes durable that we sign nothing any more.
func (c *clerk) stop() {
	c.mu.Lock()
	b := c.book
	c.mu.Unlock()
	if b == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime/2)
	defer cancel()
	if c.d.failed() == nil {
		c.drain(ctx)
	}
	b.giveBack()
}
