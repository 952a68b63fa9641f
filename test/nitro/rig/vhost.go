package rig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A device is what a driver in the guest talks to. QEMU hands it the queues and
// the guest's memory over a unix socket (vhost-user); from there on QEMU is not
// in the way.
//
// Protocol: docs/interop/vhost-user.rst of QEMU, and the virtio specification 1.2.
type device interface {
	// config is the device's configuration space; nil for a device without one.
	config() []byte
	// start is called once for each queue, when it and the memory are set up. It
	// runs until queue.wait fails, or stop was called.
	start(index int, q *queue)
	// stop ends the device for good; no guest starts twice here.
	stop()
}

// Requests of vhost-user that a device without extras meets.
const (
	getFeatures         = 1
	setFeatures         = 2
	setOwner            = 3
	setMemTable         = 5
	setVringNum         = 8
	setVringAddr        = 9
	setVringBase        = 10
	getVringBase        = 11
	setVringKick        = 12
	setVringCall        = 13
	setVringErr         = 14
	getProtocolFeatures = 15
	setProtocolFeatures = 16
	getQueueNum         = 17
	setVringEnable      = 18
	getConfig           = 24
	resetDevice         = 34
	setStatus           = 39
)

const (
	featureIndirect = 1 << 28
	featureProtocol = 1 << 30 // of vhost-user, not of virtio
	featureVersion1 = 1 << 32

	protocolMQ     = 1 << 0
	protocolConfig = 1 << 9

	noFD = 1 << 8 // in the payload of kick and call: no descriptor comes with it
)

// A backend serves one device to one QEMU.
type backend struct {
	dev    device
	queues []*queue

	mu      sync.Mutex
	regions []region
	running sync.WaitGroup
}

// region is a piece of the guest's memory, mapped here.
type region struct {
	guest, user, size uint64 // where guest and QEMU have it
	mem               []byte // from the start of the file
	offset            uint64
}

// serve accepts QEMU's one connection and serves it until it ends; the listener
// is closed either way.
func serve(l *net.UnixListener, dev device, queues int) error {
	defer l.Close()
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer c.Close()
	b := &backend{dev: dev}
	for i := range queues {
		b.queues = append(b.queues, &queue{b: b, index: i})
	}
	defer b.close()
	for {
		m, err := readMessage(c)
		if err != nil {
			return err
		}
		reply, err := b.handle(m)
		m.closeFDs()
		if err != nil {
			return fmt.Errorf("vhost-user request %d: %w", m.request, err)
		}
		if reply == nil {
			continue
		}
		if err := writeReply(c, m.request, reply); err != nil {
			return err
		}
	}
}

func (b *backend) close() {
	for _, q := range b.queues {
		q.stop()
	}
	b.running.Wait() // nobody may touch the memory below any more
	for _, q := range b.queues {
		q.close()
	}
	for _, r := range b.regions {
		unix.Munmap(r.mem)
	}
}

type message struct {
	request uint32
	payload []byte
	fds     []int
}

func (m *message) closeFDs() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
}

// takeFD hands the one descriptor of a message to the caller.
func (m *message) takeFD() (int, error) {
	if len(m.fds) != 1 {
		return -1, fmt.Errorf("%d descriptors", len(m.fds))
	}
	fd := m.fds[0]
	m.fds = nil
	return fd, nil
}

func (m *message) u32(i int) uint32 { return binary.LittleEndian.Uint32(m.payload[4*i:]) }
func (m *message) u64(i int) uint64 { return binary.LittleEndian.Uint64(m.payload[8*i:]) }

func readMessage(c *net.UnixConn) (*message, error) {
	header := make([]byte, 12)
	oob := make([]byte, 1024)
	n, oobn, _, _, err := c.ReadMsgUnix(header, oob)
	if err != nil {
		return nil, err
	}
	m := &message{}
	if oobn > 0 {
		control, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return nil, err
		}
		for _, c := range control {
			fds, err := syscall.ParseUnixRights(&c)
			if err != nil {
				return nil, err
			}
			m.fds = append(m.fds, fds...)
		}
	}
	if n != len(header) {
		return nil, errors.New("short vhost-user header")
	}
	m.request = binary.LittleEndian.Uint32(header)
	m.payload = make([]byte, binary.LittleEndian.Uint32(header[8:]))
	for got := 0; got < len(m.payload); {
		n, err := c.Read(m.payload[got:])
		if err != nil {
			return nil, err
		}
		got += n
	}
	// Fields are read by position below.
	m.payload = append(m.payload, make([]byte, 64)...)[:max(len(m.payload), 64)]
	return m, nil
}

func writeReply(c *net.UnixConn, request uint32, payload []byte) error {
	const version, isReply = 1, 1 << 2
	out := binary.LittleEndian.AppendUint32(nil, request)
	out = binary.LittleEndian.AppendUint32(out, version|isReply)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(payload)))
	_, err := c.Write(append(out, payload...))
	return err
}

func u64Reply(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// handle returns the reply, or nil if the request has none.
func (b *backend) handle(m *message) ([]byte, error) {
	switch m.request {
	case getFeatures:
		return u64Reply(featureVersion1 | featureProtocol | featureIndirect), nil
	case getProtocolFeatures:
		if b.dev.config() == nil {
			return u64Reply(protocolMQ), nil
		}
		return u64Reply(protocolMQ | protocolConfig), nil
	case getQueueNum:
		return u64Reply(uint64(len(b.queues))), nil
	case getConfig:
		return b.config(m), nil
	case setMemTable:
		return nil, b.mapMemory(m)
	case setFeatures, setProtocolFeatures, setOwner, setVringErr, setStatus:
		return nil, nil
	case resetDevice:
		for _, q := range b.queues {
			q.stop()
		}
		return nil, nil
	case setVringNum, setVringAddr, setVringBase, getVringBase, setVringKick, setVringCall, setVringEnable:
		return b.handleQueue(m)
	}
	return nil, errors.New("unknown")
}

func (b *backend) config(m *message) []byte {
	offset, size := m.u32(0), m.u32(1)
	reply := make([]byte, 12+size)
	copy(reply, m.payload[:12])
	if all := b.dev.config(); int(offset) < len(all) {
		copy(reply[12:], all[offset:])
	}
	return reply
}

func (b *backend) mapMemory(m *message) error {
	n := int(m.u32(0))
	if n != len(m.fds) {
		return fmt.Errorf("%d regions with %d descriptors", n, len(m.fds))
	}
	var regions []region
	for i := range n {
		at := 1 + 4*i
		r := region{guest: m.u64(at), size: m.u64(at + 1), user: m.u64(at + 2), offset: m.u64(at + 3)}
		mem, err := unix.Mmap(m.fds[i], 0, int(r.offset+r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("cannot map the guest's memory: %w", err)
		}
		r.mem = mem
		regions = append(regions, r)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Old maps stay: a queue may be reading in them. There are few in a run.
	b.regions = append(regions, b.regions...)
	return nil
}

// guest returns size bytes at an address of the guest's.
func (b *backend) guest(addr, size uint64) ([]byte, error) {
	return b.find(addr, size, func(r region) uint64 { return r.guest })
}

// user returns size bytes at an address of QEMU's.
func (b *backend) user(addr, size uint64) ([]byte, error) {
	return b.find(addr, size, func(r region) uint64 { return r.user })
}

func (b *backend) find(addr, size uint64, base func(region) uint64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.regions {
		if start := base(r); addr >= start && addr < start+r.size && size <= start+r.size-addr {
			at := r.offset + addr - start
			return r.mem[at : at+size : at+size], nil
		}
	}
	return nil, fmt.Errorf("no guest memory at %#x (%d bytes)", addr, size)
}

func (b *backend) handleQueue(m *message) ([]byte, error) {
	index := m.u32(0)
	if m.request == setVringKick || m.request == setVringCall {
		index &= noFD - 1
	}
	if int(index) >= len(b.queues) {
		return nil, fmt.Errorf("queue %d", index)
	}
	q := b.queues[index]
	switch m.request {
	case setVringNum:
		q.size = m.u32(1)
	case setVringAddr:
		return nil, q.place(m.u64(1), m.u64(2), m.u64(3))
	case setVringBase:
		q.next = uint16(m.u32(1))
	case getVringBase:
		q.stop()
		return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, index), uint32(q.next)), nil
	case setVringCall:
		if m.u32(0)&noFD != 0 {
			return nil, nil
		}
		fd, err := m.takeFD()
		if err == nil {
			q.setCall(fd)
		}
		return nil, err
	case setVringKick:
		fd, err := m.takeFD()
		if err == nil {
			q.kick = os.NewFile(uintptr(fd), "kick")
			q.run()
		}
		return nil, err
	}
	return nil, nil
}
