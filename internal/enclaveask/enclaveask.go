// Package enclaveask is a conversation of one command with an enclave that runs, whatever the
// TEE: the command asks on [hostlink.ControlPort], and serves meanwhile the ports that the
// enclave dials for the answer. `privyseal start` has its own, longer one (enclavehost).
//
// What the enclave answers is checked by who asks. The enclave trusts nothing that it is
// asked.
package enclaveask

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"privyseal/internal/enclavehost"
	"privyseal/internal/hostlink"
	"privyseal/internal/vsock"
)

// AnswerTimeout bounds the wait for an answer: longer than the enclave's own for KMS.
const AnswerTimeout = 150 * time.Second

// bootTimeout bounds the wait for an enclave that was launched, where [Words] name no other time,
// and sayEvery how often it is said that the wait goes on.
const (
	bootTimeout = 30 * time.Second
	sayEvery    = 10 * time.Second
)

// Conversation is one with an enclave. The zero Conversation is one that has not begun.
type Conversation struct {
	// Failed is called with why the host could not connect the enclave to something. Nil:
	// the last such error is joined to what an answer of the enclave says.
	Failed func(error)
	// Waiting is called from time to time while the enclave does not answer yet, with how long
	// that has been. It may be nil.
	Waiting func(time.Duration)

	ticks     <-chan time.Time // for tests; nil is one after each sayEvery
	boot      string
	conn      net.Conn
	stops     []func()
	unreached atomic.Pointer[error]
}

// Words are what the messages of a conversation say of one kind of enclave.
type Words struct {
	Silent string // what to look at if it was launched and does not answer
	Other  string // what to do about one that runs under another policy than its file has
	// Boot bounds the wait for an answer after a launch that says nothing of itself; 0 is half
	// a minute.
	Boot time.Duration
}

// Boot returns which boot of the enclave it is: 32 hex digits.
func (c *Conversation) Boot() string { return c.boot }

// Serve has what the enclave dials handled until the conversation is closed.
func (c *Conversation) Serve(ctx context.Context, link enclavehost.Link, port uint32, what string, handle func(context.Context, vsock.Conn) error) error {
	l, err := link.Listen(port)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; is `privyseal start` of another home running on this instance?", err)
		}
		return fmt.Errorf("cannot connect the enclave to %s: %w", what, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	c.stops = append(c.stops, func() {
		cancel()
		l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			peer, ok := conn.(vsock.Conn)
			if !ok {
				conn.Close()
				continue
			}
			go func() {
				defer peer.Close()
				if err := handle(ctx, peer); err != nil && ctx.Err() == nil {
					c.failed(err)
				}
			}()
		}
	}()
	return nil
}

func (c *Conversation) failed(err error) {
	if c.Failed != nil {
		c.Failed(err)
		return
	}
	c.unreached.Store(&err)
}

// Dialler dials a port of the enclave, as an [enclavehost.Link] does.
type Dialler interface {
	Dial(ctx context.Context, port uint32) (vsock.Conn, error)
}

// Connect waits until the enclave answers, and checks that it runs under the policy with this
// SHA-256.
func (c *Conversation) Connect(ctx context.Context, link Dialler, policy [32]byte, words Words) (err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(words.Boot, bootTimeout))
	defer cancel()
	answered := c.tell()
	defer answered()
	for {
		if c.conn, err = link.Dial(ctx, hostlink.ControlPort); err == nil {
			break
		}
		// Waiting gives nobody a right, and no life.
		if errors.Is(err, syscall.EACCES) || errors.Is(err, enclavehost.ErrEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the enclave was launched and does not answer: %w; %s", err, words.Silent)
		case <-time.After(100 * time.Millisecond):
		}
	}
	reply, err := c.Call(ctx, hostlink.Request{Hello: &hostlink.Hello{}})
	if err != nil {
		return err
	}
	if s := reply.Status; s == nil || len(s.Boot) != 32 || !bytes.Equal(s.Policy, policy[:]) {
		return errors.New("the enclave runs with another policy than the one it is measured with here; " + words.Other)
	}
	c.boot = reply.Status.Boot
	return nil
}

// tell says from time to time that the enclave does not answer yet, until what it returns is
// called.
func (c *Conversation) tell() (answered func()) {
	if c.Waiting == nil {
		return func() {}
	}
	began, ticks, stop := time.Now(), c.ticks, func() {}
	if ticks == nil {
		ticker := time.NewTicker(sayEvery)
		ticks, stop = ticker.C, ticker.Stop
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-ticks:
				c.Waiting(time.Since(began))
			}
		}
	})
	return func() {
		close(done)
		group.Wait()
		stop()
	}
}

// Call asks, after Connect.
func (c *Conversation) Call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	if err := c.conn.SetDeadline(time.Now().Add(AnswerTimeout)); err != nil {
		return hostlink.Reply{}, err
	}
	defer context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })()
	reply, err := hostlink.Call(c.conn, req)
	if why := c.unreached.Load(); err != nil && why != nil {
		err = fmt.Errorf("%w (the host: %w)", err, *why)
	}
	return reply, err
}

// Close ends the conversation. The enclave keeps running.
func (c *Conversation) Close() {
	if c.conn != nil {
		c.conn.Close()
	}
	for i := len(c.stops) - 1; i >= 0; i-- {
		c.stops[i]()
	}
	c.stops = nil
}
