package hostile

import (
	"context"
	"errors"
	"fmt"
	"net"

	"privyseal/internal/claims"
	"privyseal/internal/enclave"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
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
	m := newModule(w.t, w.root)
	e.guest, e.pcr0 = p, m.pcrs[0]
	w.admit(e.pcr0)
	c := enclave.Config{
		Version: testVersion, Policy: w.policy, Module: m, KMS: p.client(m), Dial: p.dial,
		Listen: func(port uint32) (net.Listener, error) {
			if port != hostlink.ControlPort {
				return nil, fmt.Errorf("the enclave listens on port %d", port)
			}
			return listener{l, w}, nil
		},
	}
	go func() { p.done <- enclave.Run(ctx, c) }()
}

// client returns the enclave's client of KMS, made as its program makes it.
func (p *process) client(m *module) *nitrokms.Client {
	w := p.e.w
	w.t.Helper()
	use, err := claims.Claims{Purpose: claims.PurposeKMS, KMSKey: w.policy.KMSKey}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := nitrokms.New(nitrokms.Config{
		KeyARN: w.policy.KMSKey, ServerName: w.policy.KMSServerName, Roots: w.policy.Roots(),
		Dial:   func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, hostlink.KMSPort) },
		Attest: func(publicKey []byte) ([]byte, error) { return m.Attest(use, nil, publicKey) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
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
