package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"privyseal/internal/sgx"
	"privyseal/internal/sgx/sgxtest"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
	"privyseal/test/sgx/rig"
)

const (
	enclaveBatches = 100
	enclaveStarts  = 20
	verifications  = 200
	enclaveReady   = time.Second
	verifyMax      = 5 * time.Millisecond
	echoSize       = 250 // bytes, about those of a vote, and of a mark
)

// sgx compares the key in an SGX enclave with the key in a file: two signers with a node on a
// unix socket and one on tcp each. The program of the enclave runs as test/sgx/rig does it,
// without Gramine; so what is measured is our side of it.
func (b *bench) sgx(ctx context.Context) (rows []row, err error) {
	if err := rig.Available(); err != nil {
		leftOut("keys in an SGX enclave: " + err.Error())
		return nil, nil
	}
	w, err := world.New(ctx, enclave.In(filepath.Dir(b.privyseal), rig.Program))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	verify, err := verification(w)
	if err != nil {
		return nil, err
	}
	folder, err := w.Enclave(ctx)
	if err != nil {
		return nil, err
	}
	ready, err := b.enclaveStart(ctx, w.InitFlags(folder))
	if err != nil {
		return nil, err
	}
	rows, err = b.enclaveLatency(ctx, w.InitFlags(folder))
	return append(rows, within("SGX enclave: process start to first signature, p50", ready.p(50), enclaveReady),
		within("a quote and its collateral, read and verified, p50", verify.p(50), verifyMax)), err
}

// verification measures what a verifier elsewhere does.
func verification(w *world.World) (took samples, err error) {
	quote, err := w.Machine.Intel.Quote(sgxtest.Enclave{})
	if err != nil {
		return nil, err
	}
	collateral, err := w.Machine.Collateral()
	if err != nil {
		return nil, err
	}
	anchor, err := sgx.ParseAnchor(w.Machine.RootPEM())
	if err != nil {
		return nil, err
	}
	for range verifications {
		err := took.timed(func() error {
			c, err := sgx.ParseCollateral(collateral)
			if err != nil {
				return err
			}
			q, err := sgx.Parse(quote)
			if err == nil {
				_, err = q.Verify(c, anchor, time.Now())
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// enclaveStart measures what [bench.start] does, for a key in an enclave: its launch is in it.
func (b *bench) enclaveStart(ctx context.Context, flags []string) (took samples, err error) {
	h := &home{b: b, dir: b.path("sgx-start")}
	if err := h.init(ctx, "sgx-start", flags...); err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	n, err := b.newNode("sgx-start")
	if err != nil {
		return nil, err
	}
	defer n.close()
	for range enclaveStarts {
		if err := n.startOnce(ctx, h, &took); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// transports is a signer with a node on a unix socket and one on tcp.
func (b *bench) transports(ctx context.Context, name string, flags ...string) (*served, error) {
	unix, err := b.newNode(name + "-unix")
	if err != nil {
		return nil, err
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	h, tcp := &home{b: b, dir: b.path(name)}, secureNode(name+"-tcp", l)
	if err := h.init(ctx, unix.chain, flags...); err != nil {
		return nil, err
	}
	if err := h.initAt(ctx, tcp.chain, "tcp://"+l.Addr().String(), flags...); err != nil {
		return nil, err
	}
	if err := h.moveMetrics(); err != nil {
		return nil, err
	}
	return serving([]*node{unix, tcp}, func() (*process, error) { return h.start(ctx) })
}

// enclaveLatency compares votes of both signers by turns, on one disk. A vote goes to the
// enclave by way of the host, and its mark to the host's disk: two round trips between
// processes that a key in a file does not need.
func (b *bench) enclaveLatency(ctx context.Context, flags []string) ([]row, error) {
	trip, end, err := newEcho(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	file, err := b.transports(ctx, "file")
	if err != nil {
		return nil, err
	}
	defer file.close()
	enclave, err := b.transports(ctx, "enclave", flags...)
	if err != nil {
		return nil, err
	}
	defer enclave.close()
	var inFile, inside [2]samples // by unix, by tcp
	var trips samples
	turns := []func() error{batch(&trips, trip)}
	for i := range inFile {
		turns = append(turns,
			func() error { return file.nodes[i].timedPrevotes(batchSize, &inFile[i]) },
			func() error { return enclave.nodes[i].timedPrevotes(batchSize, &inside[i]) })
	}
	if err := byTurns(ctx, turns, enclaveBatches); err != nil {
		return nil, enclave.p.failed(err)
	}
	var rows []row
	for i, by := range []string{"unix", "tcp"} {
		rows = append(rows,
			atMost(1.1, "key in an SGX enclave, request to reply by "+by+": prevote, p50", inside[i], 50, "key in a file", inFile[i]),
			beside("the same", inside[i], 50, "key in a file, and two round trips of "+micros(trips.p(50))+",", inFile[i].plus(2*trips.p(50))),
			beside("the same, p99", inside[i], 99, "key in a file", inFile[i]))
	}
	return rows, errors.Join(file.p.stop(), enclave.p.stop())
}

// newEcho returns a round trip by TCP to a process that does nothing else.
func newEcho(ctx context.Context) (trip func() error, end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	p, err := start(ctx, self, "-echo-to", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	n := &node{listen: l}
	if err := n.accept(); err != nil {
		return nil, nil, p.failed(err)
	}
	message, back := make([]byte, echoSize), make([]byte, echoSize)
	return func() error {
			if _, err := n.conn.Write(message); err != nil {
				return err
			}
			_, err := io.ReadFull(n.conn, back)
			return err
		}, func() {
			n.conn.Close()
			p.kill()
		}, nil
}

// echo sends back what it gets, until the other side ends.
func echo(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for buffer := make([]byte, echoSize); ; {
		if _, err := io.ReadFull(conn, buffer); err != nil {
			return nil
		}
		if _, err := conn.Write(buffer); err != nil {
			return err
		}
	}
}
