// Package session keeps one connection to one validator node: it dials the
// node, reads its requests, has them answered, writes the replies, and starts
// again when the connection ends, without end.
//
// It knows no key and no mark. What a request means is the business of the
// handler; a session only guarantees that a request is answered in time or the
// connection is closed, so that the node asks again, and that no session ever
// waits for another.
//
// The node is not trusted: its messages meet the decoder of package privval,
// its silence the deadlines below. Over unix and a tcp without node id nobody
// is authenticated but by the permissions of a socket.
package session

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"privyseal/internal/dial"
	"privyseal/internal/noiseconn"
	"privyseal/internal/privval"
	"privyseal/internal/secretconn"
)

const (
	// DefaultIdle is how long a node that has asked once may be silent. It pings
	// every 3.3 s.
	DefaultIdle = 10 * time.Second

	// A node that starts waits for its signer for 3 s, then exits. The pause
	// between two attempts stays well below that.
	minPause = 20 * time.Millisecond
	maxPause = 800 * time.Millisecond

	// A node that was served for so long, or that got a signature, is dialled at
	// once when its connection ends. One that asks for the key and hangs up is not.
	usefulAfter = 5 * time.Second
)

// State is what a session is doing.
type State int32

const (
	Dialling State = iota // no connection
	Parked                // connected; the node has not asked yet, it may have another signer
	Serving               // the node has asked
)

// String returns the state in lower case, as in status and metrics.
func (s State) String() string {
	return [...]string{"dialling", "parked", "serving"}[s]
}

// Session is one node and how to serve it. Addr and Handle are required.
type Session struct {
	Addr Addr
	// Dial connects to the node in place of dialling Addr, as an enclave does
	// that has no network. The handshake that Addr asks for follows all the same.
	Dial func(context.Context) (net.Conn, error)
	// PeerUID is the user that has to own the other end of a unix socket, or nil
	// for any. Linux only.
	PeerUID *uint32
	// Identity proves to tcp and noise nodes our identity. Required for both.
	Identity ed25519.PrivateKey
	// Idle ends a connection that is silent for so long, and up to a second more,
	// after its handshake or its first request. 0 is DefaultIdle.
	Idle time.Duration

	// Handle answers one request. Its context ends AnswerTimeout after the
	// request was read. An error closes the connection. The request's memory is
	// used again after Handle returned.
	Handle func(ctx context.Context, req *privval.Request) (privval.Response, error)

	// Changed is called at every change of state, with what ended the last
	// connection or attempt where there is something to report. It may be nil.
	Changed func(s State, err error)

	signed bool // a signature left on the present connection
}

// Run serves the node until ctx ends. A request that is in progress then is still
// answered.
func (s *Session) Run(ctx context.Context) {
	s.changed(Dialling, nil)
	pause := minPause
	for ctx.Err() == nil {
		start := time.Now()
		served, err := s.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		s.changed(Dialling, err)
		// A node that was served just now is likely to wait for us.
		if served && (s.signed || time.Since(start) >= usefulAfter) {
			pause = minPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// connect dials once and serves until the connection ends. It reports whether
// the node asked for anything, and what ended it.
func (s *Session) connect(ctx context.Context) (served bool, err error) {
	s.signed = false
	raw, err := s.dial(ctx)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	s.changed(Parked, nil)

	// A parked connection may wait for days, also within the handshake.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	conn, err := s.secure(raw)
	if !stop() || err != nil {
		return false, err
	}
	return s.serve(ctx, conn)
}

func (s *Session) dial(ctx context.Context) (net.Conn, error) {
	if s.Dial != nil {
		conn, err := s.Dial(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot dial %s: %w", s.Addr, err)
		}
		return conn, nil
	}
	conn, err := dial.Node(ctx, s.Addr.Socket(), s.Addr.Address, s.PeerUID)
	if err != nil {
		// Without the address, which the error of package net has once more.
		if op, is := errors.AsType[*net.OpError](err); is {
			err = op.Err
		}
		return nil, fmt.Errorf("cannot dial %s: %w", s.Addr, err)
	}
	return conn, nil
}

// secure runs the handshake that the address asks for.
func (s *Session) secure(conn net.Conn) (secured net.Conn, err error) {
	switch s.Addr.Network {
	case "tcp":
		secured, err = secretconn.Client(conn, s.Identity, s.Addr.Peer)
	case "noise":
		secured, err = s.noise(conn)
	default:
		return conn, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot secure the connection to %s: %w", s.Addr, err)
	}
	return secured, nil
}

func (s *Session) noise(conn net.Conn) (net.Conn, error) {
	want, err := noiseconn.ParsePeerID(s.Addr.Peer)
	if err != nil {
		return nil, err
	}
	return noiseconn.Client(conn, s.Identity, want)
}

// serve answers requests, one at a time, until the connection or ctx ends.
func (s *Session) serve(ctx context.Context, conn net.Conn) (served bool, err error) {
	// The end of ctx interrupts the wait for the next request and nothing else.
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	limits := deadlines{conn: conn, idle: s.Idle}
	if limits.idle == 0 {
		limits.idle = DefaultIdle
	}
	dog := watchdog{conn: conn}
	defer dog.stop()
	r := bufio.NewReader(conn)
	var in, out []byte
	for {
		// A node that did its part of a handshake has taken us, and pings.
		if served || s.Addr.Network != "unix" {
			limits.extend()
		}
		if ctx.Err() != nil {
			return served, nil
		}
		if _, err := r.Peek(1); err != nil {
			return served, s.ended(served, err)
		}
		if !privval.FrameBuffered(r) {
			limits.message()
		}
		if in, err = privval.ReadFrame(r, in); err != nil {
			return served, fmt.Errorf("cannot serve %s: %w", s.Addr, err)
		}
		req, err := privval.Decode(in)
		if err != nil {
			return served, fmt.Errorf("cannot serve %s: %w", s.Addr, err)
		}
		if !served {
			served = true
			s.changed(Serving, nil)
		}
		resp, err := s.answer(ctx, &dog, &req)
		if err != nil {
			return served, fmt.Errorf("cannot answer %s: %w", s.Addr, err)
		}
		out = resp.AppendFrame(out[:0])
		limits.extend()
		if _, err := conn.Write(out); err != nil {
			return served, fmt.Errorf("cannot answer %s: %w", s.Addr, err)
		}
		s.signed = s.signed || len(resp.Signature) > 0
	}
}

// answer has the request handled, even if ctx ends meanwhile. When its time is
// up the connection is closed under it: the handler may sit in a system call
// that cannot be interrupted, and the node should not wait for that.
func (s *Session) answer(ctx context.Context, dog *watchdog, req *privval.Request) (privval.Response, error) {
	now := time.Now()
	answering := newAnswerContext(ctx, now)
	defer answering.release()
	dog.begin(now)
	defer dog.end()
	return s.Handle(answering, req)
}

// ended says in an operator's words why no request came.
func (s *Session) ended(served bool, err error) error {
	switch {
	case errors.Is(err, io.EOF) && !served && s.Addr.Network == "noise":
		// The node judges our identity after we are done with the handshake.
		return fmt.Errorf("%s closed the connection before it asked: is our peer id the one in its priv_validator_laddr? `privyseal key show --format peer-id` prints it", s.Addr)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s closed the connection", s.Addr)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s was silent for too long", s.Addr)
	}
	return fmt.Errorf("lost the connection to %s: %w", s.Addr, err)
}

func (s *Session) changed(state State, err error) {
	if s.Changed != nil {
		s.Changed(state, err)
	}
}

// jitter returns between half and all of d, so that signers which lost a node
// at once do not come back at once.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
