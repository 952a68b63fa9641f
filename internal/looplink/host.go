package looplink

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/vsock"
)

// maxOpening is how many connections may be opening at once: anybody on the machine can make
// such ones, and the oldest goes for the next one. An enclave dials all its nodes at once when
// its host is another one, up to hostlink.MaxServed. maxOffers is how many offers of a port are
// kept.
const (
	maxOpening = 320
	maxOffers  = 16
)

// Host is the host's side of one enclave.
type Host struct {
	l     net.Listener
	token token

	mu      sync.Mutex
	opening []conn // the oldest first
	ports   map[uint32]*port
	offers  map[uint32]chan conn
	watches []conn // of an enclave that has gone, too
	closed  bool
	done    chan struct{} // closed when closed is set
}

// NewHost listens for one enclave.
func NewHost() (*Host, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the enclave: %w", err)
	}
	h := &Host{l: l, ports: map[uint32]*port{}, offers: map[uint32]chan conn{}, done: make(chan struct{})}
	if _, err := rand.Read(h.token[:]); err != nil {
		l.Close()
		return nil, err
	}
	go h.accept()
	return h, nil
}

// Environment returns the variable that the enclave is launched with. Whoever reads it may
// pose as the enclave.
func (h *Host) Environment() string {
	return Variable + "=" + h.l.Addr().String() + " " + hex.EncodeToString(h.token[:])
}

func (h *Host) accept() {
	for {
		c, err := h.l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors; there will be some
			time.Sleep(50 * time.Millisecond)
		default:
			h.begin(c.(conn))
			go h.opened(c.(conn))
		}
	}
}

// begin counts a connection among those that are opening.
func (h *Host) begin(c conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		c.Close() // which [Host.opened] finds out
		return
	}
	if len(h.opening) == maxOpening {
		h.opening[0].Close()
		h.opening = slices.Delete(h.opening, 0, 1)
	}
	h.opening = append(h.opening, c)
}

// opened hands a connection to who waits for it, and closes it if nobody does.
func (h *Host) opened(c conn) {
	c.SetDeadline(time.Now().Add(openTimeout))
	o, err := readOpening(c)
	c.SetDeadline(time.Time{})
	h.mu.Lock()
	h.opening = slices.DeleteFunc(h.opening, func(other conn) bool { return other == c })
	h.mu.Unlock()
	if err != nil || subtle.ConstantTimeCompare(o.token[:], h.token[:]) != 1 || !h.give(o, c) {
		c.Close()
	}
}

// give reports whether somebody has the connection now.
func (h *Host) give(o opening, c conn) bool {
	switch o.kind {
	case watching:
		return h.watched(c)
	case offered:
		return h.offer(o.port, c)
	}
	h.mu.Lock()
	p := h.ports[o.port]
	h.mu.Unlock()
	if p == nil {
		return false
	}
	if _, err := c.Write([]byte{taken}); err != nil {
		return false
	}
	select {
	case p.conns <- c:
		return true
	case <-p.done:
		return false
	}
}

// watched keeps a connection open until the host ends.
func (h *Host) watched(c conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.watches) == maxOffers {
		return false
	}
	h.watches = append(h.watches, c)
	_, err := c.Write([]byte{taken})
	return err == nil
}

// offer keeps a connection until somebody dials its port. Once the host has ended, nobody does,
// and nobody would close it.
func (h *Host) offer(n uint32, c conn) bool {
	offers := h.offered(n)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(offers) == maxOffers {
		return false
	}
	offers <- c
	return true
}

// offered returns the offers of a port.
func (h *Host) offered(n uint32) chan conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.offers[n] == nil {
		h.offers[n] = make(chan conn, maxOffers)
	}
	return h.offers[n]
}

// Dial takes what the enclave offers at a port, and waits for an offer until ctx ends.
func (h *Host) Dial(ctx context.Context, n uint32) (vsock.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the enclave does not listen on port %d: %w", n, context.Cause(ctx))
		case <-h.done: // nobody answers any more
			return nil, fmt.Errorf("cannot dial port %d of the enclave: %w", n, net.ErrClosed)
		case c := <-h.offered(n):
			if h.ended() { // since that was taken
				c.Close()
				continue
			}
			if _, err := c.Write([]byte{taken}); err == nil {
				return c, nil
			}
			c.Close() // it is gone; another may be there
		}
	}
}

// port is what the host listens on.
type port struct {
	h     *Host
	n     uint32
	conns chan conn
	done  chan struct{}
	once  sync.Once
}

// Listen accepts what the enclave dials at a port.
func (h *Host) Listen(n uint32) (net.Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended() { // nobody dials any more
		return nil, fmt.Errorf("cannot listen on port %d: %w", n, net.ErrClosed)
	}
	if h.ports[n] != nil {
		return nil, fmt.Errorf("cannot listen on port %d: %w", n, syscall.EADDRINUSE)
	}
	p := &port{h: h, n: n, conns: make(chan conn), done: make(chan struct{})}
	h.ports[n] = p
	return p, nil
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() {
		p.h.mu.Lock()
		delete(p.h.ports, p.n)
		p.h.mu.Unlock()
		close(p.done)
	})
	return nil
}

func (p *port) Addr() net.Addr { return p.h.l.Addr() }

// ended reports whether the host was closed.
func (h *Host) ended() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// Close ends all listening and dialling, what was offered, and what is opening: nothing that the
// enclave has sent before, or sends now, is left open or handed out afterwards. The enclave sees
// it, and ends. What was taken stays.
func (h *Host) Close() error {
	err := h.l.Close()
	for _, p := range h.end() {
		p.Close()
	}
	return err
}

// end ends all but the ports that are listened on, which it returns.
func (h *Host) end() []*port {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	close(h.done)
	for _, c := range h.watches {
		c.Close()
	}
	for _, c := range h.opening {
		c.Close()
	}
	for _, offers := range h.offers {
		for len(offers) > 0 { // a dial may take one, too
			select {
			case c := <-offers:
				c.Close()
			default:
			}
		}
	}
	return slices.Collect(maps.Values(h.ports))
}
