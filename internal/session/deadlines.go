package session

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A timer that is set for each request wakes a second thread each time, on a
// machine with two cores at the cost of the request. So what bounds a request
// here is set rarely and ahead.

const (
	// AnswerTimeout is how long after it was read a request may be in progress. A
	// node gives up after 5 s, and repeats a request within 0.3 s when the
	// connection is closed (privval/signer_endpoint.go, retry_signer_client.go).
	AnswerTimeout = 4 * time.Second

	// A message is written at once, so its rest follows its first byte at once.
	messageTimeout = 5 * time.Second

	// slack is by how much the ends below may come late.
	slack = time.Second
)

// deadlines are those of a connection's silence and of its writes.
type deadlines struct {
	conn net.Conn
	idle time.Duration
	set  time.Time // when they were set last
}

// extend allows silence for idle, and a write messageTimeout, from now on, or up
// to slack more.
func (d *deadlines) extend() {
	now := time.Now()
	if now.Sub(d.set) < slack {
		return
	}
	d.set = now
	d.conn.SetReadDeadline(now.Add(d.idle + slack))
	d.conn.SetWriteDeadline(now.Add(messageTimeout + slack))
}

// message allows messageTimeout for the rest of a message.
func (d *deadlines) message() {
	d.set = time.Time{}
	d.conn.SetReadDeadline(time.Now().Add(messageTimeout))
}

// watchdog closes a connection under a request that is in progress for too long.
type watchdog struct {
	conn net.Conn

	mu    sync.Mutex
	since time.Time   // of the request in progress; zero: there is none
	timer *time.Timer // nil until the first request
	armed bool
}

func (w *watchdog) begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = now
	if w.armed {
		return // it looks again by itself
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(AnswerTimeout, w.look)
	} else {
		w.timer.Reset(AnswerTimeout)
	}
}

func (w *watchdog) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Time{}
}

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.armed = false
		return
	}
	if left := AnswerTimeout - time.Since(w.since); left > 0 {
		w.timer.Reset(left)
		return
	}
	w.armed = false
	w.conn.Close()
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// answerContext ends AnswerTimeout after a request was read. It has a timer only
// if somebody waits for its end.
type answerContext struct {
	context.Context
	deadline time.Time

	once     sync.Once
	timed    context.Context
	cancel   context.CancelFunc
	released atomic.Bool
}

func newAnswerContext(parent context.Context, now time.Time) *answerContext {
	return &answerContext{Context: context.WithoutCancel(parent), deadline: now.Add(AnswerTimeout)}
}

// Deadline implements context.Context.
func (c *answerContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *answerContext) Done() <-chan struct{} {
	c.once.Do(func() { c.timed, c.cancel = context.WithDeadline(c.Context, c.deadline) })
	return c.timed.Done()
}

// Err implements context.Context. Where Done is closed it is never nil: package
// context panics in a goroutine of its own when it finds that.
func (c *answerContext) Err() error {
	if c.released.Load() {
		return context.Canceled
	}
	if time.Now().Before(c.deadline) {
		return nil
	}
	return context.DeadlineExceeded
}

// release frees the timer, if there is one. Nobody may wait for c any more.
func (c *answerContext) release() {
	c.released.Store(true)
	if c.cancel != nil {
		c.cancel()
	}
}
