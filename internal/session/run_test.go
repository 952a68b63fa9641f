package session

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flynn/noise"
	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/noiseconn"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/secretconn"
)

// The tests in this file run whole sessions against nodes on real sockets.

// patience bounds the wait for what has to happen, however busy the machine is.
const patience = time.Minute

// change is what a session reported.
type change struct {
	state State
	err   error
	at    time.Time
}

// runner is a session that runs until the test ends.
type runner struct {
	t       *testing.T
	changes chan change
	stop    context.CancelFunc
	done    chan struct{}
}

func start(t *testing.T, s *Session) *runner {
	t.Helper()
	if s.Handle == nil {
		s.Handle = echo
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &runner{t: t, changes: make(chan change, 1000), stop: stop, done: make(chan struct{})}
	s.Changed = func(state State, err error) { r.changes <- change{state, err, time.Now()} }
	go func() {
		defer close(r.done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-r.done
	})
	return r
}

// await waits for the next change to the state, and returns it.
func (r *runner) await(states ...State) change {
	r.t.Helper()
	for {
		select {
		case c := <-r.changes:
			if slices.Contains(states, c.state) {
				return c
			}
		case <-time.After(patience):
			r.t.Fatalf("the session was never %v", states)
		}
	}
}

// awaitError waits until a connection or an attempt ended with these words.
func (r *runner) awaitError(want string) change {
	r.t.Helper()
	for {
		c := r.await(Dialling)
		if c.err != nil && strings.Contains(c.err.Error(), want) {
			return c
		}
		if c.err != nil && !strings.Contains(c.err.Error(), "cannot dial") {
			r.t.Fatalf("the session says %q, not %q", c.err, want)
		}
	}
}

// awaitRefusal waits until an attempt ended with these words, and none may succeed.
func (r *runner) awaitRefusal(want string) change {
	r.t.Helper()
	for {
		c := r.await(Dialling, Parked)
		if c.state == Parked {
			r.t.Fatalf("there is a connection, and not %q", want)
		}
		if c.err != nil && strings.Contains(c.err.Error(), want) {
			return c
		}
	}
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// socket returns the address of a unix socket that nobody listens on yet.
func socket(t *testing.T) Addr {
	t.Helper()
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Addr{Network: "unix", Address: filepath.Join(dir, "node.sock")}
}

// accept takes the next signer.
func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(time.Now().Add(patience))
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func callOnce(t *testing.T, conn net.Conn, req privval.Request) {
	t.Helper()
	resp, err := privvaltest.Call(conn, bufio.NewReader(conn), req)
	if err != nil || resp.Kind != req.Kind {
		t.Fatalf("got %+v, %v", resp, err)
	}
}

// A session that finds no node tries again, soon at first, then about once a
// second, never in step with others, and never as late as a node that starts
// gives up (3 s).
func TestBackOff(t *testing.T) {
	addr := socket(t)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Session{Addr: addr})
		last := r.await(Dialling).at
		pause := minPause
		var least, most float64 = 1, 0
		for i := range 300 {
			c := r.awaitError("cannot dial " + addr.String())
			if i > 0 {
				gap := c.at.Sub(last)
				if gap < pause/2 || gap > pause {
					t.Fatalf("attempt %d after %v, want %v to %v", i, gap, pause/2, pause)
				}
				share := float64(gap) / float64(pause)
				least, most = min(least, share), max(most, share)
				pause = min(2*pause, maxPause)
			}
			last = c.at
		}
		if least > 0.55 || most < 0.95 {
			t.Errorf("the pauses vary from %.2f to %.2f of their length", least, most)
		}
		if pause != maxPause || maxPause > time.Second {
			t.Errorf("the pause grew to %v", pause)
		}
	})
}

// A node that got a signature before it went away is tried again at once. The node
// lives outside the bubble, where time is real.
func TestBackOffEndsWithService(t *testing.T) {
	addr := socket(t)
	listeners := make(chan net.Listener)
	var node sync.WaitGroup
	node.Go(func() {
		for l := range listeners {
			conn := accept(t, l)
			callOnce(t, conn, privval.Request{Kind: privval.KindProposal, ChainID: "c", Height: 1, BlockID: someBlock})
			l.Close()
			conn.Close()
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Session{Addr: addr})
		for range 3 {
			var before change
			for range 20 {
				before = r.awaitError("cannot dial")
			}
			listeners <- listen(t, "unix", addr.Address)
			if c := r.await(Serving); c.at.Sub(before.at) < maxPause/2 {
				t.Errorf("the back-off had not grown, it was %v", c.at.Sub(before.at))
			}
			lost := r.await(Dialling)
			again := r.awaitError("cannot dial")
			if pause := again.at.Sub(lost.at); pause > minPause {
				t.Errorf("after it was served the node was tried again after %v", pause)
			}
		}
	})
	close(listeners)
	node.Wait()
}

var someBlock = privval.BlockID{Hash: make([]byte, 32), PartsTotal: 1, PartsHash: make([]byte, 32)}

// unsigned answers without a signature.
func unsigned(_ context.Context, req *privval.Request) (privval.Response, error) {
	return privval.Response{Kind: req.Kind}, nil
}

// A node that takes connections and drops them is not hammered, whatever it asks
// before.
func TestBackOffWithoutService(t *testing.T) {
	for name, ask := range map[string]func(net.Conn) error{
		"nothing": func(net.Conn) error { return nil },
		"the key": func(conn net.Conn) error {
			_, err := privvaltest.Call(conn, bufio.NewReader(conn), privval.Request{Kind: privval.KindPubKey, ChainID: "c"})
			return err
		},
		"a ping": func(conn net.Conn) error {
			_, err := privvaltest.Call(conn, bufio.NewReader(conn), ping)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { backOffWithoutService(t, ask) })
	}
}

func backOffWithoutService(t *testing.T, ask func(net.Conn) error) {
	addr := socket(t)
	l := listen(t, "unix", addr.Address)
	var node sync.WaitGroup
	node.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ask(conn) // it may fail when the session ends
			conn.Close()
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Session{Addr: addr, Handle: unsigned})
		first := r.await(Dialling).at
		var last change
		for range 30 {
			r.await(Parked)
			last = r.await(Dialling)
		}
		if took := last.at.Sub(first); took < 20*maxPause/2 {
			t.Errorf("thirty connections in %v", took)
		}
		r.stop()
		<-r.done
	})
	l.Close()
	node.Wait()
}

// The states that status and metrics show, over a node's restart.
func TestNodeRestarts(t *testing.T) {
	addr := socket(t)
	r := start(t, &Session{Addr: addr})
	for range 3 {
		l := listen(t, "unix", addr.Address)
		r.await(Parked)
		conn := accept(t, l)
		callOnce(t, conn, pubKey)
		r.await(Serving)
		callOnce(t, conn, ping)
		l.Close()
		conn.Close()
		r.awaitError("closed the connection")
	}
}

// A standby is connected and unheard, and serves as soon as the first one goes.
func TestStandby(t *testing.T) {
	addr := socket(t)
	l := listen(t, "unix", addr.Address)
	first := start(t, &Session{Addr: addr})
	conn := accept(t, l)
	callOnce(t, conn, ping)
	first.await(Serving)

	second := start(t, &Session{Addr: addr})
	second.await(Parked)
	callOnce(t, conn, ping)
	first.stop()
	<-first.done
	conn = accept(t, l)
	callOnce(t, conn, ping)
	second.await(Serving)
}

// The end comes at once, whatever a session is doing. A pipe stands for the node's
// socket, so that time passes only when all wait.
func TestRunEnds(t *testing.T) {
	refused := func(context.Context) (net.Conn, error) { return nil, errors.New("refused on purpose") }
	for _, c := range []struct {
		name    string
		network string
		dial    func(context.Context) (net.Conn, error) // nil: a pipe
		asks    bool
		last    State
	}{
		{"between two attempts", "unix", refused, false, Dialling},
		{"dialling", "unix", func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, false, Dialling},
		{"parked", "unix", nil, false, Parked},
		{"in the handshake", "tcp", nil, false, Parked},
		{"in the handshake of noise", "noise", nil, false, Parked},
		{"serving", "unix", nil, true, Serving},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, node := net.Pipe()
				defer node.Close()
				s := &Session{
					Addr: Addr{Network: c.network, Address: "/node", Peer: noiseconn.PeerIDOf(publicOf(newIdentity())).String()},
					Dial: c.dial, Identity: newIdentity(),
				}
				if c.network == "tcp" {
					s.Addr.Peer = ""
				}
				if c.dial == nil {
					s.Dial = func(context.Context) (net.Conn, error) { return ours, nil }
				}
				r := start(t, s)
				if c.asks {
					callOnce(t, node, ping)
				} else if c.network != "unix" {
					io.ReadFull(node, make([]byte, 32)) // of our first message
				}
				if last := r.await(c.last); c.name == "between two attempts" && last.err == nil {
					r.awaitError("refused on purpose")
				}
				synctest.Wait()
				begin := time.Now()
				r.stop()
				<-r.done
				if took := time.Since(begin); took != 0 {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
	t.Run("before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		(&Session{Addr: socket(t), Handle: echo}).Run(ctx)
	})
}

// A node that reads no reply is left when its socket is full.
func TestNodeThatOnlyWrites(t *testing.T) {
	t.Parallel() // it takes as long as a write may
	addr := socket(t)
	l := listen(t, "unix", addr.Address)
	// Replies of a megabyte fill any socket's buffer.
	r := start(t, &Session{Addr: addr, Handle: func(_ context.Context, req *privval.Request) (privval.Response, error) {
		return privval.Response{Kind: req.Kind, Refused: strings.Repeat("no ", 1<<20)}, nil
	}})
	conn := accept(t, l)
	if err := privvaltest.WriteRequest(conn, pubKey); err != nil {
		t.Fatal(err)
	}
	c := r.awaitError("cannot answer " + addr.String())
	if !errors.Is(c.err, os.ErrDeadlineExceeded) {
		t.Errorf("it ended with %v", c.err)
	}
}

func TestPeerUID(t *testing.T) {
	addr := socket(t)
	l := listen(t, "unix", addr.Address)
	own, other := uint32(os.Getuid()), uint32(os.Getuid())+1

	r := start(t, &Session{Addr: addr, PeerUID: &other})
	c := r.awaitRefusal("cannot dial " + addr.String() + ": user ")
	if want := "peer_uid is"; !strings.Contains(c.err.Error(), want) {
		t.Errorf("%v does not say %q", c.err, want)
	}
	r.stop()
	<-r.done
	// It left without a word; the next one is served.
	r = start(t, &Session{Addr: addr, PeerUID: &own})
	r.await(Parked)
	for {
		conn := accept(t, l)
		if resp, err := privvaltest.Call(conn, bufio.NewReader(conn), ping); err == nil {
			if resp.Kind != privval.KindPing {
				t.Errorf("got %+v", resp)
			}
			break
		}
	}
	r.await(Serving)

	tcp := listen(t, "tcp", "127.0.0.1:0")
	r = start(t, &Session{Addr: Addr{Network: "tcp", Address: tcp.Addr().String()}, PeerUID: &own, Identity: newIdentity()})
	r.awaitRefusal("only a unix socket says whose process it is")
}

func newIdentity() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// TestTCP: a node's end of a SecretConnection, pinned and not.
func TestTCP(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	us, them := newIdentity(), newIdentity()
	for _, pin := range []string{"", secretconn.PeerID(publicOf(them))} {
		r := start(t, &Session{Addr: Addr{Network: "tcp", Address: l.Addr().String(), Peer: pin}, Identity: us})
		raw := accept(t, l)
		r.await(Parked)
		conn, err := secretconn.Client(raw, them, secretconn.PeerID(publicOf(us)))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			callOnce(t, conn, pubKey)
		}
		r.await(Serving)
		r.stop()
		<-r.done
	}
}

func TestTCPWrongPeer(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	them := newIdentity()
	pin := secretconn.PeerID(publicOf(newIdentity()))
	r := start(t, &Session{Addr: Addr{Network: "tcp", Address: l.Addr().String(), Peer: pin}, Identity: newIdentity()})
	conn, err := secretconn.Client(accept(t, l), them, "")
	if err == nil {
		err = privvaltest.WriteRequest(conn, pubKey)
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("a node that is not the pinned one was answered")
	}
	c := r.awaitError("cannot secure the connection to tcp://" + pin)
	if mismatch, ok := errors.AsType[*secretconn.PeerMismatchError](c.err); !ok || mismatch.Got != secretconn.PeerID(publicOf(them)) {
		t.Errorf("it ended with %v", c.err)
	}
}

// Somebody who is not a node: the handshake fails, and is tried again.
func TestTCPGarbage(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	r := start(t, &Session{Addr: Addr{Network: "tcp", Address: l.Addr().String()}, Identity: newIdentity()})
	for range 2 {
		if _, err := accept(t, l).Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		r.awaitError("cannot secure the connection to tcp://" + l.Addr().String())
	}
}

// TestNoise: a node's end of v0.40's noise.
func TestNoise(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	us, them := newIdentity(), newIdentity()
	addr := Addr{Network: "noise", Address: l.Addr().String(), Peer: noiseconn.PeerIDOf(publicOf(them)).String()}
	r := start(t, &Session{Addr: addr, Identity: us})
	conn := acceptNoise(t, accept(t, l), them)
	for range 3 {
		callOnce(t, conn, pubKey)
	}
	r.await(Serving)
	conn.Close()
	r.awaitError("closed the connection")

	// The node pins somebody else: it hears us out, and leaves.
	acceptNoise(t, accept(t, l), them).Close()
	r.awaitError("is our peer id the one in its priv_validator_laddr?")
}

func TestNoiseWrongPeer(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	pin := noiseconn.PeerIDOf(publicOf(newIdentity()))
	r := start(t, &Session{Addr: Addr{Network: "noise", Address: l.Addr().String(), Peer: pin.String()}, Identity: newIdentity()})
	raw := accept(t, l)
	go newNoiseNode(newIdentity()).handshake(raw)
	c := r.awaitError("cannot secure the connection to noise://" + pin.String())
	if _, ok := errors.AsType[*noiseconn.PeerMismatchError](c.err); !ok {
		t.Errorf("it ended with %v", c.err)
	}
}

// noiseNode is the responder of libp2p's noise (specs/noise), as much of it as
// a node needs.
type noiseNode struct {
	net.Conn
	identity   ed25519.PrivateKey
	static     noise.DHKey
	state      *noise.HandshakeState
	send, recv *noise.CipherState
	rest       []byte
}

func newNoiseNode(identity ed25519.PrivateKey) *noiseNode {
	static, err := noise.DH25519.GenerateKeypair(rand.Reader)
	if err != nil {
		panic(err)
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Pattern:       noise.HandshakeXX,
		StaticKeypair: static,
	})
	if err != nil {
		panic(err)
	}
	return &noiseNode{identity: identity, static: static, state: state}
}

func acceptNoise(t *testing.T, conn net.Conn, identity ed25519.PrivateKey) *noiseNode {
	t.Helper()
	n := newNoiseNode(identity)
	if err := n.handshake(conn); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *noiseNode) handshake(conn net.Conn) error {
	n.Conn = conn
	msg, err := n.readRecord()
	if err == nil {
		_, _, _, err = n.state.ReadMessage(nil, msg)
	}
	if err != nil {
		return err
	}
	// NoiseHandshakePayload{1: identity_key, 2: identity_sig}, the key as
	// PublicKey{1: Ed25519, 2: data}.
	key := protowire.AppendBytes([]byte{8, 1, 0x12}, publicOf(n.identity))
	sig := ed25519.Sign(n.identity, append([]byte("noise-libp2p-static-key:"), n.static.Public...))
	payload := protowire.AppendBytes([]byte{0x0a}, key)
	payload = protowire.AppendBytes(append(payload, 0x12), sig)
	if msg, _, _, err = n.state.WriteMessage(nil, payload); err != nil {
		return err
	}
	if err = n.writeRecord(msg); err != nil {
		return err
	}
	if msg, err = n.readRecord(); err != nil {
		return err
	}
	_, n.recv, n.send, err = n.state.ReadMessage(nil, msg)
	return err
}

func (n *noiseNode) readRecord() ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(n.Conn, length[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(n.Conn, msg)
	return msg, err
}

func (n *noiseNode) writeRecord(b []byte) error {
	_, err := n.Conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func (n *noiseNode) Read(p []byte) (int, error) {
	for len(n.rest) == 0 {
		msg, err := n.readRecord()
		if err == nil {
			n.rest, err = n.recv.Decrypt(nil, nil, msg)
		}
		if err != nil {
			return 0, err
		}
	}
	k := copy(p, n.rest)
	n.rest = n.rest[k:]
	return k, nil
}

func (n *noiseNode) Write(p []byte) (int, error) {
	b, err := n.send.Encrypt(nil, nil, p)
	if err == nil {
		err = n.writeRecord(b)
	}
	return len(p), err
}
