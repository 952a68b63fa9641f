package rig

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// vsockDevice is a virtio-vsock device (virtio 1.2, 5.10) whose other side are
// unix sockets: a port P that the guest dials is base_P; who dials base and writes
// "CONNECT P\n" gets the guest's port P, from a port below 1024 as a privileged
// host has them; "CONNECT P FROM Q\n" dials from port Q.
type vsockDevice struct {
	cid  uint32
	base string
	// tap, if set, sees every payload that leaves the guest.
	tap func(port uint32, payload []byte)

	mu     sync.Mutex
	cond   *sync.Cond // packets, or closed
	conns  map[connKey]*vsockConn
	out    []*packet // to the guest
	closed bool
	stale  chan struct{} // closed when the device's rx queue ends
	held   chan struct{} // until it is closed, nothing is taken from the guest; may be nil

	nextPort atomic.Uint32
}

const (
	opRequest       = 1
	opResponse      = 2
	opReset         = 3
	opShutdown      = 4
	opData          = 5
	opCreditUpdate  = 6
	opCreditRequest = 7

	shutdownReceive = 1
	shutdownSend    = 2

	typeStream  = 1
	packetBytes = 44

	cidHost = 2

	// bufAlloc is what we take of a connection before its reader has read it.
	bufAlloc = 256 << 10
	// The ports that the host dials from.
	firstHostPort, hostPorts = 512, 512
)

type packet struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	kind             uint16
	op               uint16
	flags            uint32
	bufAlloc, fwdCnt uint32
	data             []byte
	taken            chan struct{} // closed when the guest has it; may be nil

	raw  bool   // a lie of a test's: one buffer, with kind and size as they are
	size uint32 // of raw
}

func (p *packet) header(size int) []byte {
	kind := uint16(typeStream)
	if p.raw {
		kind, size = p.kind, int(p.size)
	}
	h := binary.LittleEndian.AppendUint64(nil, p.srcCID)
	h = binary.LittleEndian.AppendUint64(h, p.dstCID)
	h = binary.LittleEndian.AppendUint32(h, p.srcPort)
	h = binary.LittleEndian.AppendUint32(h, p.dstPort)
	h = binary.LittleEndian.AppendUint32(h, uint32(size))
	h = binary.LittleEndian.AppendUint16(h, kind)
	h = binary.LittleEndian.AppendUint16(h, p.op)
	h = binary.LittleEndian.AppendUint32(h, p.flags)
	h = binary.LittleEndian.AppendUint32(h, p.bufAlloc)
	return binary.LittleEndian.AppendUint32(h, p.fwdCnt)
}

func parsePacket(b []byte) (*packet, bool) {
	if len(b) < packetBytes {
		return nil, false
	}
	le := binary.LittleEndian
	p := &packet{
		srcCID: le.Uint64(b), dstCID: le.Uint64(b[8:]),
		srcPort: le.Uint32(b[16:]), dstPort: le.Uint32(b[20:]),
		kind: le.Uint16(b[28:]), op: le.Uint16(b[30:]), flags: le.Uint32(b[32:]),
		bufAlloc: le.Uint32(b[36:]), fwdCnt: le.Uint32(b[40:]),
	}
	size := uint64(le.Uint32(b[24:]))
	if size > uint64(len(b)-packetBytes) {
		return nil, false
	}
	p.data = b[packetBytes : packetBytes+size]
	return p, true
}

// connKey names a connection: the guest's port, and the other end.
type connKey struct {
	guestPort uint32
	cid       uint64 // that the guest knows us by
	port      uint32
}

func newVsockDevice(cid uint32, base string) *vsockDevice {
	d := &vsockDevice{cid: cid, base: base, conns: map[connKey]*vsockConn{}, stale: make(chan struct{})}
	d.cond = sync.NewCond(&d.mu)
	return d
}

func (d *vsockDevice) config() []byte { return binary.LittleEndian.AppendUint64(nil, uint64(d.cid)) }

func (d *vsockDevice) start(index int, q *queue) {
	switch index {
	case 0:
		d.toGuest(q)
	case 1:
		d.fromGuest(q)
	}
	// Queue 2, of events, is served by QEMU.
}

// stop ends all connections and wakes all that wait.
func (d *vsockDevice) stop() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	conns := d.conns
	d.conns = map[connKey]*vsockConn{}
	close(d.stale)
	d.cond.Broadcast()
	d.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

func (d *vsockDevice) send(p *packet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = append(d.out, p)
	d.cond.Signal()
}

// toGuest fills the buffers that the guest offers. A packet that does not fit into
// one goes in several: Linux cuts silently what is larger than its buffer.
func (d *vsockDevice) toGuest(q *queue) {
	for {
		p := d.nextPacket()
		if p == nil {
			return
		}
		for first := true; first || len(p.data) > 0; first = false {
			c, err := q.wait()
			if err != nil {
				d.stop()
				return
			}
			n := min(len(p.data), c.room()-packetBytes)
			n = c.write(append(p.header(n), p.data[:n]...)) - packetBytes
			p.data = p.data[n:]
			q.put(c, packetBytes+n)
			if p.raw {
				break
			}
		}
		if p.taken != nil {
			close(p.taken)
		}
	}
}

func (d *vsockDevice) nextPacket() *packet {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.out) == 0 && !d.closed {
		d.cond.Wait()
	}
	if d.closed {
		return nil
	}
	p := d.out[0]
	d.out = d.out[1:]
	return p
}

func (d *vsockDevice) fromGuest(q *queue) {
	defer d.stop()
	for {
		c, err := q.wait()
		if err != nil {
			return
		}
		d.awaitRelease()
		p, ok := parsePacket(c.bytes())
		q.put(c, 0)
		if ok && p.kind == typeStream {
			d.receive(p)
		}
	}
}

// awaitRelease waits while the device is held.
func (d *vsockDevice) awaitRelease() {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-d.stale:
		}
	}
}

// HoldVsock has the device take nothing more of what the guest sends, until release is
// called.
func (m *Machine) HoldVsock() (release func()) {
	d, held := m.vsock, make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = held
	return sync.OnceFunc(func() { close(held) })
}

// Packet is a packet of vsock as a lying hypervisor, or parent, may send it. Op and
// Kind are as in virtio 1.2, 5.10.6; Kind 1 is a stream.
type Packet struct {
	FromCID, ToCID   uint64
	FromPort, ToPort uint32
	Kind, Op         uint16
	Flags            uint32
	Size             uint32 // that the header gives
	Room, Taken      uint32 // buf_alloc and fwd_cnt
	Data             []byte
}

// Inject sends a packet to the guest, beside all connections. It returns when the
// guest has taken it.
func (m *Machine) Inject(ctx context.Context, in Packet) error {
	p := &packet{
		srcCID: in.FromCID, dstCID: in.ToCID, srcPort: in.FromPort, dstPort: in.ToPort,
		kind: in.Kind, op: in.Op, flags: in.Flags, bufAlloc: in.Room, fwdCnt: in.Taken,
		raw: true, size: in.Size, data: in.Data, taken: make(chan struct{}),
	}
	m.vsock.send(p)
	select {
	case <-p.taken:
		return nil
	case <-m.vsock.stale:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *vsockDevice) receive(p *packet) {
	if d.tap != nil && len(p.data) > 0 {
		d.tap(p.dstPort, p.data)
	}
	key := connKey{p.srcPort, p.dstCID, p.dstPort}
	d.mu.Lock()
	c := d.conns[key]
	d.mu.Unlock()
	switch {
	case c != nil:
		c.receive(p)
	case p.op == opRequest:
		go d.dialHost(key, p)
	case p.op != opReset:
		d.reset(key)
	}
}

func (d *vsockDevice) reset(key connKey) {
	d.send(&packet{srcCID: key.cid, dstCID: uint64(d.cid), srcPort: key.port, dstPort: key.guestPort, op: opReset})
}

// dialHost connects a guest that dials out. Nobody has to listen.
func (d *vsockDevice) dialHost(key connKey, p *packet) {
	uc, err := net.Dial("unix", fmt.Sprintf("%s_%d", d.base, key.port))
	if err != nil {
		d.reset(key)
		return
	}
	c := d.add(key, uc.(*net.UnixConn))
	if c == nil {
		return
	}
	c.credit(p)
	c.send(opResponse, 0, nil)
	c.start()
}

// serveHost accepts those who dial into the guest, until the listener is closed.
func (d *vsockDevice) serveHost(l *net.UnixListener) {
	for {
		uc, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go d.dialGuest(uc)
	}
}

func (d *vsockDevice) dialGuest(uc *net.UnixConn) {
	line, err := bufio.NewReaderSize(oneByte{uc}, 64).ReadString('\n')
	to, from, hasFrom := strings.Cut(strings.TrimSuffix(line, "\n"), " FROM ")
	text, ok := strings.CutPrefix(to, "CONNECT ")
	port, numberErr := strconv.ParseUint(text, 10, 32)
	source := uint64(firstHostPort + d.nextPort.Add(1)%hostPorts)
	if hasFrom && numberErr == nil {
		source, numberErr = strconv.ParseUint(from, 10, 32)
	}
	if err != nil || !ok || numberErr != nil {
		uc.Close()
		return
	}
	c := d.add(connKey{uint32(port), cidHost, uint32(source)}, uc)
	if c != nil {
		c.send(opRequest, 0, nil)
	}
}

// oneByte reads no further than it is asked to look.
type oneByte struct{ io.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// add returns nil, with uc closed, if the device is, or the port is taken.
func (d *vsockDevice) add(key connKey, uc *net.UnixConn) *vsockConn {
	c := newVsockConn(d, key, uc)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.conns[key] != nil {
		uc.Close()
		return nil
	}
	d.conns[key] = c
	return c
}

// remove forgets a connection, and reports whether it was known.
func (d *vsockDevice) remove(c *vsockConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[c.key] != c {
		return false
	}
	delete(d.conns, c.key)
	return true
}
