package noiseconn

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/flynn/noise"
)

// peer is the responder's side of a handshake, done by hand so that it can be
// done wrong.
type peer struct {
	conn     net.Conn
	identity ed25519.PrivateKey
	static   noise.DHKey
	state    *noise.HandshakeState
	hello    []byte // the client's first message
	// sendKey and recvKey are set by finish.
	sendKey, recvKey *noise.CipherState
}

// newPeer returns a peer that has read the client's first message.
func newPeer(t testing.TB, conn net.Conn, identity ed25519.PrivateKey) *peer {
	static := newStatic()
	state := newResponder(static, nil)
	p := &peer{conn: conn, identity: identity, static: static, state: state}
	var err error
	if p.hello, err = p.read(); err != nil {
		t.Errorf("the client's first message: %v", err)
	}
	if _, _, _, err := state.ReadMessage(nil, p.hello); err != nil {
		t.Errorf("the client's first message: %v", err)
	}
	return p
}

func newStatic() noise.DHKey {
	key, err := noise.DH25519.GenerateKeypair(nil)
	if err != nil {
		panic(err)
	}
	return key
}

func newResponder(static noise.DHKey, prologue []byte) *noise.HandshakeState {
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Pattern:       noise.HandshakeXX,
		StaticKeypair: static,
		Prologue:      prologue,
	})
	if err != nil {
		panic(err)
	}
	return state
}

func newIdentity() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func idOf(key ed25519.PrivateKey) PeerID { return PeerIDOf(key.Public().(ed25519.PublicKey)) }

// payload returns what the peer says in its message.
func (p *peer) payload() []byte {
	return payload{
		key:        p.identity.Public().(ed25519.PublicKey),
		signature:  ed25519.Sign(p.identity, signed(p.static.Public)),
		extensions: []byte{},
	}.encode()
}

// message returns the peer's handshake message with its length.
func (p *peer) message(payload []byte) []byte {
	b, _, _, err := p.state.WriteMessage(nil, payload)
	if err != nil {
		panic(err)
	}
	return framed(b)
}

// finish reads the client's identity.
func (p *peer) finish() ([]byte, error) {
	msg, err := p.read()
	if err != nil {
		return nil, err
	}
	var b []byte
	b, p.recvKey, p.sendKey, err = p.state.ReadMessage(nil, msg)
	return b, err
}

// sealed returns the record of chunk.
func (p *peer) sealed(chunk []byte) []byte { return seal(p.sendKey, chunk) }

func seal(key *noise.CipherState, chunk []byte) []byte {
	b, err := key.Encrypt(nil, nil, chunk)
	if err != nil {
		panic(err)
	}
	return framed(b)
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func (p *peer) read() ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(p.conn, length[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(p.conn, msg)
	return msg, err
}

// send fails when the client has gone, which is often what is tested.
func (p *peer) send(b []byte) error {
	_, err := p.conn.Write(b)
	return err
}

// serve does the handshake as a node does, and returns the node's end.
func serve(t testing.TB, conn net.Conn, identity ed25519.PrivateKey) (*Conn, error) {
	p := newPeer(t, conn, identity)
	if err := p.send(p.message(p.payload())); err != nil {
		return nil, err
	}
	if _, err := p.finish(); err != nil {
		return nil, err
	}
	return newConn(conn, p.sendKey, p.recvKey), nil
}

// pair returns the two ends of a secured connection over a and b. No test hangs
// longer than a minute on it.
func pair(t testing.TB, a, b net.Conn) (*Conn, *Conn) {
	t.Helper()
	type result struct {
		conn *Conn
		err  error
	}
	node := newIdentity()
	other := make(chan result, 1)
	go func() {
		c, err := serve(t, b, node)
		other <- result{c, err}
	}()
	ca, err := Client(a, newIdentity(), idOf(node))
	if err != nil {
		t.Fatal(err)
	}
	cb := <-other
	if cb.err != nil {
		t.Fatal(cb.err)
	}
	for _, c := range []*Conn{ca, cb.conn} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return ca, cb.conn
}

// readStream reads to the end what a peer sent as stream.
func readStream(recv *noise.CipherState, stream []byte) ([]byte, error) {
	return io.ReadAll(newConn(newTranscript(stream), nil, recv))
}

// halves returns both ends of one direction.
func halves(key byte) (send, recv *noise.CipherState) {
	suite := noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256)
	k := [32]byte{key}
	return noise.UnsafeNewCipherState(suite, k, 0), noise.UnsafeNewCipherState(suite, k, 0)
}

// tcpPair returns the ends of a loopback connection.
func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// transcript plays what a peer once sent, in small parts, and keeps what is
// written to it.
type transcript struct {
	io.Reader
	written bytes.Buffer
}

func newTranscript(b []byte) *transcript {
	return &transcript{Reader: iotest.HalfReader(bytes.NewReader(b))}
}

func (s *transcript) Write(p []byte) (int, error)      { return s.written.Write(p) }
func (s *transcript) Close() error                     { return nil }
func (s *transcript) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *transcript) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *transcript) SetDeadline(time.Time) error      { return nil }
func (s *transcript) SetReadDeadline(time.Time) error  { return nil }
func (s *transcript) SetWriteDeadline(time.Time) error { return nil }

func newConn(conn net.Conn, send, recv *noise.CipherState) *Conn {
	return &Conn{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), send: send, recv: recv}
}
