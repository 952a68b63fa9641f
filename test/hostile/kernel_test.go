package hostile

import (
	"context"
	"errors"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/test/nitro/rig"
)

// machine returns the machine of an enclave in QEMU. What is beneath vsock is the
// kernel's, and this process has no guest kernel.
func (e *running) machine() *machine {
	e.w.t.Helper()
	m, ok := e.guest.(*machine)
	if !ok {
		e.w.t.Fatal("the enclave lives in this process")
	}
	return m
}

func needsKernel(t *testing.T) {
	t.Helper()
	if !inQEMU {
		t.Skip("it needs a guest's kernel; type: make test-nitro")
	}
	t.Parallel()
}

// Ports and ids as a host sees them: its own end is reserved, see package vsock.
const (
	hostCID, guestCID = 2, 16
	hostPort          = 700
	nobodysPort       = 12345

	opRequest, opData, opCreditRequest = 1, 5, 7
)

// flood sends packets until the guest takes no more for a while, or most, and
// returns how many it took.
func (m *machine) flood(t *testing.T, most uint32, packet func(i uint32) rig.Packet) (taken uint32) {
	t.Helper()
	for ; taken < most; taken++ {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := m.Inject(ctx, packet(taken))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil { // it has ended
			break
		}
	}
	return taken
}

// A host that sends what has to be answered and takes no answers: Linux reads
// nothing then (`queued_replies`, see kernel/build), and nothing is signed. It lasts
// no longer than the host wants it to, for the guest waits for nobody else: what was
// asked before is signed then.
func TestHostThatTakesNothing(t *testing.T) {
	needsKernel(t)
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	n := e.node(v)
	height := int64(1)
	from := func(i uint32, op uint16, port uint32) rig.Packet {
		return rig.Packet{FromCID: hostCID, ToCID: guestCID, FromPort: 1024 + i, ToPort: port, Kind: 1, Op: op, Room: 1 << 18}
	}
	for name, packet := range map[string]func(i uint32) rig.Packet{
		"connections that nobody takes": func(i uint32) rig.Packet { return from(i, opRequest, nobodysPort) },
		"connections to the program":    func(i uint32) rig.Packet { return from(i, opRequest, hostlink.ControlPort) },
		"data of no connection": func(i uint32) rig.Packet {
			p := from(i, opData, nobodysPort)
			p.Data, p.Size = make([]byte, 129), 129
			return p
		},
	} {
		n.signs(height, 1)
		height++
		m := e.machine()
		release := m.HoldVsock()
		n.write(height, 1)
		taken := m.flood(t, 100_000, packet)
		if taken == 100_000 {
			t.Errorf("%s: the guest reads on, though nobody takes its answers", name)
		}
		n.unanswered()
		began := time.Now()
		release()
		n = e.answered(n, height, 1)
		t.Logf("%s: %d taken; signed %v after the end of the flood", name, taken, time.Since(began))
		n.refuses(height, 2)
		e.hello()
		height++
	}
	e.signsOn(v, d, height)
}

// Packets with headers at random: of other kinds, operations, ids, ports and sizes.
func TestPacketsAtRandom(t *testing.T) {
	needsKernel(t)
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	n := e.node(v)
	n.signs(1, 1)
	m := e.machine()
	const packets = 20_000
	ports := []uint32{0, hostlink.ControlPort, hostlink.NodePort, hostlink.HeartbeatPort, nobodysPort, 1<<32 - 1}
	taken := m.flood(t, packets, func(i uint32) rig.Packet {
		return rig.Packet{
			FromCID: uint64(i % 5), ToCID: guestCID + uint64(i%7/6), FromPort: hostPort + i%1000, ToPort: ports[i%6],
			Kind: uint16(i % 4), Op: uint16(i % 9), Flags: i % 8, Size: []uint32{0, 1, 64, 1 << 12, 1<<32 - 1}[i%5],
			Room: i * 7919, Taken: i * 104729, Data: make([]byte, i%64),
		}
	})
	if taken < packets {
		t.Errorf("the guest took %d packets of %d", taken, packets)
	}
	n = e.eventually(n, 2, 1)
	n.refuses(2, 2)
	e.signsOn(v, d, 3)
}

// A host that asks a connection for its credit and takes no answer: Linux queues one
// for each until its memory is full. The enclave ends then, as a host can end it at
// any time, and has signed nothing twice; the next one signs on from its state.
func TestHostThatEatsTheKernelsMemory(t *testing.T) {
	needsKernel(t)
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	e.node(v).signs(1, 1)
	m := e.machine()
	release := m.HoldVsock()
	taken := m.flood(t, 400_000, func(i uint32) rig.Packet {
		p := rig.Packet{FromCID: hostCID, ToCID: guestCID, FromPort: hostPort, ToPort: hostlink.ControlPort, Kind: 1, Op: opCreditRequest, Room: 1 << 18}
		if i == 0 {
			p.Op = opRequest
		}
		return p
	})
	release()
	select {
	case <-m.Done():
		t.Logf("the enclave ended after %d requests for credit", taken)
		e.died()
	case <-time.After(time.Second):
		t.Logf("the enclave outlived %d requests for credit", taken)
		e.halt()
	}
	next := w.boot(w.honest(d))
	if s := next.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	next.node(v).refuses(1, 2)
	next.signsOn(v, d, 2)
}

// died is halt for an enclave that was ended from outside.
func (e *running) died() {
	e.once.Do(func() { e.current().end() })
}
