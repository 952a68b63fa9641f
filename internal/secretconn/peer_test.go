package secretconn

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// peer is the other side of a handshake, done by hand so that it can be done
// wrong.
type peer struct {
	conn      net.Conn
	ephemeral *ecdh.PrivateKey
	identity  ed25519.PrivateKey
	theirs    []byte // the client's ephemeral key
	keys      *sessionKeys
}

// newPeer returns a peer with new keys that has read the client's first message
// and throws away everything that follows it.
func newPeer(t testing.TB, conn net.Conn) *peer {
	msg := make([]byte, ephemeralSize)
	if _, err := io.ReadFull(conn, msg); err != nil {
		t.Errorf("the client's ephemeral key: %v", err)
	}
	theirs, err := decodeEphemeral(msg)
	if err != nil {
		t.Error(err)
	}
	go io.Copy(io.Discard, conn)
	return &peer{conn: conn, ephemeral: newEphemeral(), identity: newIdentity(), theirs: theirs}
}

func newEphemeral() *ecdh.PrivateKey {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func newIdentity() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// hello returns the peer's first message and derives the keys from it.
func (p *peer) hello() []byte {
	keys, err := derive(p.ephemeral, p.theirs)
	if err != nil {
		panic(err)
	}
	p.keys = keys
	return encodeEphemeral(p.ephemeral.PublicKey().Bytes())
}

// auth returns the peer's second message, decrypted.
func (p *peer) auth() []byte {
	return encodeIdentity(p.identity.Public().(ed25519.PublicKey), ed25519.Sign(p.identity, p.keys.challenge))
}

// sealed returns the record of chunk.
func (p *peer) sealed(chunk []byte) []byte {
	record, err := p.keys.send.seal(nil, chunk)
	if err != nil {
		panic(err)
	}
	return record
}

// framed returns the record of a frame whose length field says n.
func (p *peer) framed(n uint32, chunk []byte) []byte {
	return sealFrame(&p.keys.send, n, chunk)
}

func sealFrame(h *half, n uint32, chunk []byte) []byte {
	nonce, err := h.nextNonce()
	if err != nil {
		panic(err)
	}
	frame := make([]byte, frameSize)
	copy(frame, []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
	copy(frame[lengthSize:], chunk)
	return h.aead.Seal(nil, nonce, frame, nil)
}

// send fails when the client has gone, which is often what is tested.
func (p *peer) send(b []byte) error {
	_, err := p.conn.Write(b)
	return err
}

// readStream reads to the end what a peer sent as stream.
func readStream(recv half, stream []byte) ([]byte, error) {
	c := &Conn{in: bufio.NewReaderSize(bytes.NewReader(stream), readBuffer), recv: recv}
	return io.ReadAll(c)
}

// halves returns both ends of one direction.
func halves(t testing.TB) (send, recv half) {
	a, b := newEphemeral(), newEphemeral()
	ka, err := derive(a, b.PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	kb, err := derive(b, a.PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return ka.send, kb.recv
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

// clients returns two Clients that talk to each other over a and b. No test
// hangs longer than a minute on them.
func clients(t testing.TB, a, b net.Conn) (*Conn, *Conn) {
	t.Helper()
	type result struct {
		conn *Conn
		err  error
	}
	other := make(chan result, 1)
	go func() {
		c, err := Client(b, newIdentity(), "")
		other <- result{c, err}
	}()
	ca, err := Client(a, newIdentity(), "")
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
