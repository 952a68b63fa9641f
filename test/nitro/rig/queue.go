package rig

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue is a split virtqueue, seen from the device. One goroutine takes chains
// out of it; any may hand them back.
type queue struct {
	b     *backend
	index int
	size  uint32
	next  uint16 // the next chain that the driver offers, by its count
	kick  *os.File

	desc, avail, used []byte

	mu     sync.Mutex
	call   int // eventfd that interrupts the guest; 0 for none
	filled uint16
	done   chan struct{}
}

const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	noInterrupt = 1 // in the flags of the available ring
)

// place finds the rings at addresses of QEMU's.
func (q *queue) place(desc, used, avail uint64) (err error) {
	n := uint64(q.size)
	if q.desc, err = q.b.user(desc, 16*n); err != nil {
		return err
	}
	if q.avail, err = q.b.user(avail, 6+2*n); err != nil {
		return err
	}
	if q.used, err = q.b.user(used, 6+8*n); err != nil {
		return err
	}
	if avail%4 != 0 || used%4 != 0 {
		return errors.New("rings that are not aligned to 4 bytes")
	}
	q.filled = uint16(word(q.used).Load() >> 16)
	return nil
}

// word is the first 32 bits of a ring: flags, and the index that the other side
// watches. Read and written in one piece, it orders what is around it. Host and
// guest are little-endian.
func word(ring []byte) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&ring[0])) }

// setCall takes over the descriptor that interrupts. QEMU gives the final one
// after the queue has been started, and what was signalled on those before it is
// lost: Linux' security module driver, whose first request is from before that,
// would wait for two minutes. So each new one gets an interrupt.
func (q *queue) setCall(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.call != 0 {
		unix.Close(q.call)
	}
	q.call = fd
	q.interrupt()
}

func (q *queue) interrupt() {
	// A full counter means that an interrupt is pending, which is enough.
	unix.Write(q.call, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (q *queue) run() {
	q.done = make(chan struct{})
	done := q.done
	q.b.running.Go(func() {
		defer close(done)
		q.b.dev.start(q.index, q)
	})
}

// close gives back what is left of a queue that has stopped.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.call != 0 {
		unix.Close(q.call)
		q.call = 0
	}
}

// stop returns when the device has left the queue.
func (q *queue) stop() {
	if q.kick == nil {
		return
	}
	q.b.dev.stop()
	q.kick.Close() // wakes wait
	<-q.done
	q.kick = nil
}

var errStopped = errors.New("the queue is stopped")

// wait returns the next chain that the driver offers.
func (q *queue) wait() (*chain, error) {
	for uint16(word(q.avail).Load()>>16) == q.next {
		var count [8]byte
		if _, err := q.kick.Read(count[:]); err != nil {
			return nil, errStopped
		}
	}
	slot := uint32(q.next) % q.size
	q.next++
	return q.read(binary.LittleEndian.Uint16(q.avail[4+2*slot:]))
}

// chain is a list of buffers that driver and device exchange: those that the
// device reads, then those that it writes.
type chain struct {
	head uint16
	in   [][]byte // from the guest
	out  [][]byte // to the guest
}

func (q *queue) read(head uint16) (*chain, error) {
	c := &chain{head: head}
	table, i := q.desc, head
	for steps := 0; steps <= int(q.size)+256; steps++ {
		if int(i)*16+16 > len(table) {
			return nil, fmt.Errorf("queue %d: descriptor %d", q.index, i)
		}
		d := table[int(i)*16:]
		addr, size := binary.LittleEndian.Uint64(d), uint64(binary.LittleEndian.Uint32(d[8:]))
		flags, next := binary.LittleEndian.Uint16(d[12:]), binary.LittleEndian.Uint16(d[14:])
		mem, err := q.b.guest(addr, size)
		switch {
		case err != nil:
			return nil, err
		case flags&descIndirect != 0:
			table, i = mem, 0
			continue
		case flags&descWrite != 0:
			c.out = append(c.out, mem)
		default:
			c.in = append(c.in, mem)
		}
		if flags&descNext == 0 {
			return c, nil
		}
		i = next
	}
	return nil, fmt.Errorf("queue %d: a chain without end", q.index)
}

// bytes returns a copy of all that the guest sent.
func (c *chain) bytes() []byte {
	var all []byte
	for _, b := range c.in {
		all = append(all, b...)
	}
	return all
}

// room returns how many bytes write has place for.
func (c *chain) room() int {
	n := 0
	for _, b := range c.out {
		n += len(b)
	}
	return n
}

// write returns how many bytes had place.
func (c *chain) write(data []byte) int {
	n := 0
	for _, b := range c.out {
		n += copy(b, data[n:])
	}
	return n
}

// put hands a chain back with n bytes written, and interrupts the guest.
func (q *queue) put(c *chain, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill(c, n)
	q.publish()
}

// put2 hands two chains back before it interrupts the guest, the first with
// nothing written.
func (q *queue) put2(first, second *chain, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill(first, 0)
	q.fill(second, n)
	q.publish()
}

func (q *queue) fill(c *chain, n int) {
	entry := q.used[4+8*(uint32(q.filled)%q.size):]
	binary.LittleEndian.PutUint32(entry, uint32(c.head))
	binary.LittleEndian.PutUint32(entry[4:], uint32(n))
	q.filled++
}

func (q *queue) publish() {
	word(q.used).Store(uint32(q.filled) << 16)
	if q.call != 0 && word(q.avail).Load()&noInterrupt == 0 {
		q.interrupt()
	}
}
