package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// host is the process around an enclave: what it does with each connection of the
// enclave. As honest makes it, it is honest; tests change single ports.
type host struct {
	state, node, kms, log, etcd func(net.Conn)

	lines chan hostlink.Line

	mu    sync.Mutex
	conns []net.Conn
	nodes map[string]chan net.Conn // the nodes' ends of the connections to them, by chain
	done  chan struct{}            // closed when it is gone
}

// disk is what an honest host keeps: it outlives the process.
type disk struct {
	mu      sync.Mutex
	keepers map[watermark.ID]*hostlink.Keeper
}

func newDisk(t *testing.T, vs ...*validator) *disk {
	t.Helper()
	d := &disk{keepers: map[watermark.ID]*hostlink.Keeper{}}
	for _, v := range vs {
		d.write(t, v, v.first)
	}
	return d
}

// write puts a record on the disk, whatever stood there.
func (d *disk) write(t *testing.T, v *validator, record []byte) {
	t.Helper()
	d.writeAt(t, v.id, record)
}

func (d *disk) writeAt(t *testing.T, id watermark.ID, record []byte) {
	t.Helper()
	m, err := hostlink.HostMark(record)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepers[id] = &hostlink.Keeper{ID: id, Store: storetest.NewFake(m)}
}

// serve is the state port of an honest host.
func (d *disk) serve(conn net.Conn) {
	id, err := hostlink.ReadStateOpen(conn)
	if err != nil {
		return
	}
	d.mu.Lock()
	k := d.keepers[id]
	d.mu.Unlock()
	if k == nil {
		hostlink.RefuseState(conn, errors.New("no such state"))
		return
	}
	k.Serve(context.Background(), conn)
}

// honest returns an honest host. d may be nil for one without state.
func (w *world) honest(d *disk) *host {
	if d == nil {
		d = &disk{}
	}
	h := &host{state: d.serve, nodes: map[string]chan net.Conn{}, lines: make(chan hostlink.Line, 1<<16), done: make(chan struct{})}
	h.node = func(conn net.Conn) {
		hello, err := hostlink.ReadNodeHello(conn)
		if err != nil || hostlink.AnswerNode(conn, nil) != nil {
			return
		}
		h.dialled(hello.ChainID) <- conn
		<-h.done // until then the node has it
	}
	h.kms = func(conn net.Conn) { relay(conn, w.kms.Addr()) }
	h.etcd = func(conn net.Conn) {
		hello, err := hostlink.ReadEtcdHello(conn)
		if err != nil || hostlink.AnswerNode(conn, nil) != nil {
			return
		}
		w.etcd.carried.Add(1)
		relay(conn, hello.Address)
	}
	h.log = func(conn net.Conn) {
		hostlink.ReadLines(conn, func(l hostlink.Line) {
			select {
			case h.lines <- l:
			default:
			}
		})
	}
	return h
}

// dialled returns the connections that an enclave made to the nodes of a chain.
func (h *host) dialled(chain string) chan net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nodes[chain] == nil {
		h.nodes[chain] = make(chan net.Conn, 1<<10)
	}
	return h.nodes[chain]
}

// take serves a connection, unless the host is gone.
func (h *host) take(port uint32, conn net.Conn) bool {
	handle := map[uint32]func(net.Conn){
		hostlink.StatePort: h.state, hostlink.NodePort: h.node, hostlink.KMSPort: h.kms, hostlink.LogPort: h.log,
		hostlink.EtcdPort: h.etcd,
	}[port]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isGone() || handle == nil {
		return false
	}
	h.conns = append(h.conns, conn)
	go func() {
		defer conn.Close()
		handle(conn)
	}()
	return true
}

func (h *host) isGone() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// end ends the process: all its connections with it.
func (h *host) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isGone() {
		return
	}
	close(h.done)
	for _, c := range h.conns {
		c.Close()
	}
}

// relay copies between a connection and an address.
func relay(conn net.Conn, addr string) {
	outside, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer outside.Close()
	go func() {
		io.Copy(outside, conn)
		outside.Close()
	}()
	io.Copy(conn, outside)
}

// notary is the state port taken apart: it answers frame by frame, honestly, or as
// a lie says. It remembers every record that it ever saw.
type notary struct {
	mu      sync.Mutex
	current map[string][]byte   // by what the enclave opens
	seen    map[string][][]byte // the same, in order
	lie     lie
	lied    chan struct{} // a record was lied about
}

// lie returns the frames that answer one, and whether the connection ends then. It
// is asked with the notary locked; truth does what an honest host does, and returns
// its answer. None and no end is silence.
type lie func(frame []byte, open string, truth func() []byte) (answers [][]byte, end bool)

func newNotary(vs ...*validator) *notary {
	n := &notary{current: map[string][]byte{}, seen: map[string][][]byte{}, lied: make(chan struct{}, 1<<16)}
	for _, v := range vs {
		n.put(v, v.first)
	}
	return n
}

func opening(v *validator) string { return string(v.id.Key[:]) + v.chain }

func (n *notary) put(v *validator, record []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current[opening(v)] = record
	n.seen[opening(v)] = append(n.seen[opening(v)], record)
}

// newest returns the record with the highest number that the notary ever saw.
func (n *notary) newest(v *validator) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	best := v.first
	for _, r := range n.seen[opening(v)] {
		if seq(r) > seq(best) {
			best = r
		}
	}
	return best
}

func seq(record []byte) uint64 { return binary.BigEndian.Uint64(record) }

// tell has every frame answered by l; nil is the truth.
func (n *notary) tell(l lie) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lie = l
	for len(n.lied) > 0 {
		<-n.lied
	}
}

// wait waits until n records were lied about.
func (n *notary) wait(t *testing.T, times int) {
	t.Helper()
	for range times {
		select {
		case <-n.lied:
		case <-time.After(patience):
			t.Fatal("the enclave does not ask again")
		}
	}
}

// numbered checks that no boot gave one number to two records: somebody elsewhere
// who has seen one of them could be shown the other.
func (n *notary) numbered(t *testing.T, v *validator) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	by := map[string][]byte{}
	for _, r := range n.seen[opening(v)] {
		if len(r) < 24 {
			continue // a test's own
		}
		// Number and boot.
		if before := by[string(r[:24])]; before != nil && !bytes.Equal(before, r) {
			t.Errorf("two records have the number %d", seq(r))
		}
		by[string(r[:24])] = r
	}
}

func (n *notary) serve(conn net.Conn) {
	var open string
	for {
		frame, err := readFrame(conn)
		if err != nil || len(frame) == 0 {
			return
		}
		if frame[0] == 'O' {
			open = string(frame[1:])
		}
		answers, end := n.answer(frame, open)
		for _, a := range answers {
			if writeFrame(conn, a) != nil {
				return
			}
		}
		if end {
			return
		}
	}
}

func (n *notary) answer(frame []byte, open string) (answers [][]byte, end bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if frame[0] == 'P' {
		n.seen[open] = append(n.seen[open], frame[1:])
	}
	truth := func() []byte { return n.truth(frame, open) }
	if n.lie == nil {
		return [][]byte{truth()}, false
	}
	answers, end = n.lie(frame, open, truth)
	if frame[0] == 'P' {
		n.lied <- struct{}{}
	}
	return answers, end
}

func (n *notary) truth(frame []byte, open string) []byte {
	current := n.current[open]
	switch {
	case current == nil:
		return []byte("Eno such state")
	case frame[0] == 'O':
		return framed('R', current)
	case bytes.Equal(frame[1:], current):
		return framed('A', current)
	case seq(frame[1:]) > seq(current):
		n.current[open] = frame[1:]
		return framed('A', frame[1:])
	}
	return framed('M', current)
}

func framed(kind byte, body []byte) []byte { return append([]byte{kind}, body...) }

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:])&0xffffff)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, payload []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...))
	return err
}
