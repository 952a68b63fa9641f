package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"

	inside "privyseal/internal/enclave/nitro"
	"privyseal/internal/hostlink"
	"privyseal/test/nitro/rig"
)

// process is an enclave in this process: goroutines, and tcp in vsock's place.
type process struct {
	e    *running
	ctl  net.Listener
	stop context.CancelFunc
	done chan error
}

func (w *world) bootHere(e *running) {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &process{e: e, stop: stop, done: make(chan error, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	p.ctl = l
	pcrs := map[int][48]byte{}
	for i := range 16 {
		pcrs[i] = [48]byte{byte(i + 7)}
	}
	m, err := rig.NewModule(w.root, "i-1-enc1", pcrs)
	if err != nil {
		w.t.Fatal(err)
	}
	pcr0 := pcrs[0]
	e.guest, e.pcr0 = p, pcr0[:]
	w.admit(e.pcr0)
	policy, err := w.policy.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	b := inside.Boot{
		Version: testVersion, Policy: policy, Module: m, Dial: p.dial,
		Listen: func(port uint32) (net.Listener, error) {
			if port != hostlink.ControlPort {
				return nil, fmt.Errorf("the enclave listens on port %d", port)
			}
			return listener{l, w}, nil
		},
	}
	go func() { p.done <- inside.Run(ctx, b) }()
}

func (p *process) call() (net.Conn, error) { return net.Dial("tcp", p.ctl.Addr().String()) }

func (p *process) end() error {
	p.stop()
	return <-p.done
}

func (p *process) dial(_ context.Context, port uint32) (net.Conn, error) {
	inside, outside, err := pair()
	if err != nil {
		return nil, err
	}
	if port == hostlink.LogPort {
		inside.(*net.TCPConn).SetWriteBuffer(16 << 10) // vsock's are not larger either
	}
	if !p.e.current().take(port, outside) {
		inside.Close()
		outside.Close()
		return nil, errors.New("connection refused")
	}
	return &leaving{inside, p.e.w.stream()}, nil
}

// leaving keeps what the enclave writes to a connection.
type leaving struct {
	net.Conn
	stream *stream
}

func (l *leaving) Write(p []byte) (int, error) {
	l.stream.Write(p)
	return l.Conn.Write(p)
}

type listener struct {
	net.Listener
	w *world
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &leaving{conn, l.w.stream()}, nil
}

// pair returns two ends of a connection.
func pair() (inside, outside net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if inside, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if outside, err = l.Accept(); err != nil {
		inside.Close()
		return nil, nil, err
	}
	return inside, outside, nil
}
