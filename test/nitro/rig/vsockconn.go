package rig

import (
	"fmt"
	"net"
	"sync"
)

// vsockConn is a connection between a port of the guest and a unix socket.
type vsockConn struct {
	d   *vsockDevice
	key connKey
	uc  *net.UnixConn

	mu      sync.Mutex
	cond    *sync.Cond
	started bool
	closed  bool

	// To the guest: what it has room for.
	peerAlloc, peerFwd, sent uint32
	// From the guest: what waits for the socket, and what went there.
	pending        []byte
	fwd, announced uint32
	guestDone      bool // the guest sends nothing more
	guestDeaf      bool // the guest reads nothing more
}

func newVsockConn(d *vsockDevice, key connKey, uc *net.UnixConn) *vsockConn {
	c := &vsockConn{d: d, key: key, uc: uc}
	c.cond = sync.NewCond(&c.mu)
	return c
}

// start begins to copy; the guest has agreed.
func (c *vsockConn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.started = true
		go c.copyToGuest()
		go c.copyToHost()
	}
}

func (c *vsockConn) send(op uint16, flags uint32, data []byte) {
	c.mu.Lock()
	p := &packet{
		srcCID: c.key.cid, dstCID: uint64(c.d.cid), srcPort: c.key.port, dstPort: c.key.guestPort,
		op: op, flags: flags, bufAlloc: bufAlloc, fwdCnt: c.fwd, data: data,
	}
	c.announced = c.fwd
	c.mu.Unlock()
	if data != nil {
		p.taken = make(chan struct{})
	}
	c.d.send(p)
	if p.taken != nil {
		select {
		case <-p.taken:
		case <-c.d.stale:
		}
	}
}

// credit notes what the guest has room for; each of its packets says so.
func (c *vsockConn) credit(p *packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peerAlloc, c.peerFwd = p.bufAlloc, p.fwdCnt
	c.cond.Broadcast()
}

func (c *vsockConn) receive(p *packet) {
	c.credit(p)
	switch p.op {
	case opResponse:
		// Who dialled learns it before the guest's first byte can reach the socket.
		if _, err := fmt.Fprintf(c.uc, "OK %d\n", c.key.port); err != nil {
			c.abort()
			return
		}
		c.start()
	case opReset:
		c.d.remove(c)
		c.close()
	case opData:
		c.mu.Lock()
		over := len(c.pending)+len(p.data) > bufAlloc
		if !over {
			c.pending = append(c.pending, p.data...)
			c.cond.Broadcast()
		}
		c.mu.Unlock()
		if over {
			c.abort()
		}
	case opCreditRequest:
		c.send(opCreditUpdate, 0, nil)
	case opShutdown:
		c.mu.Lock()
		c.guestDone = c.guestDone || p.flags&shutdownSend != 0
		c.guestDeaf = c.guestDeaf || p.flags&shutdownReceive != 0
		deaf := c.guestDeaf
		c.cond.Broadcast()
		c.mu.Unlock()
		if deaf {
			c.uc.CloseRead()
		}
	}
}

// abort resets the connection on both sides.
func (c *vsockConn) abort() {
	if c.d.remove(c) {
		c.d.reset(c.key)
	}
	c.close()
}

func (c *vsockConn) close() {
	c.mu.Lock()
	c.closed = true
	c.cond.Broadcast()
	c.mu.Unlock()
	c.uc.Close()
}

// room waits until the guest has room, and returns 0 if it never will.
func (c *vsockConn) room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.closed || c.guestDeaf {
			return 0
		}
		if n := int32(c.peerAlloc - (c.sent - c.peerFwd)); n > 0 {
			return int(n)
		}
		c.cond.Wait()
	}
}

func (c *vsockConn) copyToGuest() {
	buf := make([]byte, 64<<10)
	for {
		room := c.room()
		if room == 0 {
			return
		}
		n, err := c.uc.Read(buf[:min(room, len(buf))])
		if n > 0 {
			c.mu.Lock()
			c.sent += uint32(n)
			c.mu.Unlock()
			c.send(opData, 0, append([]byte(nil), buf[:n]...))
		}
		if err != nil {
			// The socket's end is only the end of what it sends: it may still read.
			c.mu.Lock()
			over := c.closed || c.guestDeaf
			c.mu.Unlock()
			if !over {
				c.send(opShutdown, shutdownSend, nil)
			}
			return
		}
	}
}

// copyToHost ends the connection when the guest has closed it for good and has
// got rid of all it sent; until then the guest's close lingers.
func (c *vsockConn) copyToHost() {
	for {
		data, ok := c.take()
		if !ok {
			return
		}
		if data == nil {
			c.uc.CloseWrite()
			break
		}
		if _, err := c.uc.Write(data); err != nil {
			c.abort()
			return
		}
		c.mu.Lock()
		c.fwd += uint32(len(data))
		update := c.fwd-c.announced >= bufAlloc/4
		c.mu.Unlock()
		if update {
			c.send(opCreditUpdate, 0, nil)
		}
	}
	c.mu.Lock()
	for !c.guestDeaf && !c.closed {
		c.cond.Wait()
	}
	c.mu.Unlock()
	c.abort()
}

// take returns what waits for the socket, or nil when the guest has sent its last.
func (c *vsockConn) take() (data []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) == 0 && !c.guestDone && !c.closed {
		c.cond.Wait()
	}
	if c.closed {
		return nil, false
	}
	data = c.pending
	c.pending = nil
	return data, true
}
