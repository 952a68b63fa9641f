package looplink

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Enclave is the enclave's side.
type Enclave struct {
	host  netip.AddrPort
	token token
}

// NewEnclave returns the enclave's side, by the value of Variable.
func NewEnclave(variable string) (*Enclave, error) {
	at, t, err := parse(variable)
	if err != nil {
		return nil, err
	}
	return &Enclave{at, t}, nil
}

// open dials the host and begins a connection.
func (e *Enclave) open(ctx context.Context, kind byte, port uint32) (conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", e.host.String())
	if err != nil {
		return nil, fmt.Errorf("cannot reach the host: %w", err)
	}
	c.SetDeadline(time.Now().Add(openTimeout))
	if err := (opening{e.token, kind, port}).write(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot reach the host: %w", err)
	}
	return c.(conn), nil
}

// openAndWait begins a connection that the host takes at once.
func (e *Enclave) openAndWait(ctx context.Context, kind byte, port uint32) (conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c, err := e.open(ctx, kind, port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err = readTaken(c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// Dial connects to what the host listens on at a port.
func (e *Enclave) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	c, err := e.openAndWait(ctx, dialled, port)
	if err != nil {
		return nil, fmt.Errorf("the host does not serve port %d: %w", port, err)
	}
	return c, nil
}

// Watch returns a context that ends with ctx, and when the host is gone.
func (e *Enclave) Watch(ctx context.Context) (context.Context, error) {
	c, err := e.openAndWait(ctx, watching, 0)
	if err != nil {
		return nil, fmt.Errorf("the host that launched this enclave is gone, or has launched another one: %w", err)
	}
	ctx, gone := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		c.Read(make([]byte, 1)) // nothing comes
		gone()
	}()
	return ctx, nil
}

// listener accepts what the host dials.
type listener struct {
	e      *Enclave
	port   uint32
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex // held by who waits for the host
}

// Listen accepts what the host dials at a port.
func (e *Enclave) Listen(port uint32) (net.Listener, error) {
	l := &listener{e: e, port: port}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// Accept offers a connection, and waits until the host takes it. An offer that fails is made
// again, after a pause: the host may have no descriptors. If it is gone, [Enclave.Watch] says so.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.offer()
		if l.ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil, net.ErrClosed
		}
		if err == nil {
			return c, nil
		}
		select {
		case <-l.ctx.Done():
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
	}
}

func (l *listener) offer() (conn, error) {
	c, err := l.e.open(l.ctx, offered, l.port)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Time{})
	stop := context.AfterFunc(l.ctx, func() { c.Close() })
	defer stop()
	if err := readTaken(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends Accept. What was accepted stays.
func (l *listener) Close() error {
	l.cancel()
	return nil
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.e.host) }
