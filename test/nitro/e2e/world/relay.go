package world

import (
	"io"
	"net"
	"sync"
)

// Relay copies TCP connections to a target, and can be cut like a cable.
type Relay struct {
	Addr   string // host:port
	target string

	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    map[net.Conn]bool
}

func newRelay(target string) (*Relay, error) {
	r := &Relay{Addr: "127.0.0.1:0", target: target, conns: map[net.Conn]bool{}}
	err := r.Mend()
	return r, err
}

// Mend listens, at the same address each time.
func (r *Relay) Mend() error {
	l, err := net.Listen("tcp", r.Addr)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Addr, r.listener = l.Addr().String(), l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return nil
}

// Cut ends all connections and refuses new ones.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for c := range r.conns {
		c.Close()
	}
}

func (r *Relay) serve(inside net.Conn) {
	defer inside.Close()
	outside, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer outside.Close()
	if !r.keep(inside) {
		return
	}
	go func() {
		io.Copy(outside, inside)
		outside.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(inside, outside)
	r.mu.Lock()
	delete(r.conns, inside)
	r.mu.Unlock()
}

// keep remembers a connection, unless the cable is cut.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.conns[c] = true
	}
	return r.listener != nil
}
