// Package noiseconn_test runs privyseal's Noise against CometBFT v0.40's own
// listener, in one process over loopback, and makes the golden handshake and
// peer ids that the package's own tests read.
package noiseconn_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/lp2p"
	"github.com/cometbft/cometbft/privval"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pnoise "github.com/libp2p/go-libp2p/p2p/security/noise"

	"privyseal/internal/noiseconn"
)

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// libp2pID returns the peer id that CometBFT gives to key.
func libp2pID(t *testing.T, key ed25519.PrivateKey) peer.ID {
	t.Helper()
	id, err := lp2p.IDFromPrivateKey(cmted25519.PrivKey(key))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ourID reads CometBFT's text for the id of key.
func ourID(t *testing.T, key ed25519.PrivateKey) noiseconn.PeerID {
	t.Helper()
	id, err := noiseconn.ParsePeerID(libp2pID(t, key).String())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// node is CometBFT's listener, which takes one connection.
type node struct {
	addr     string
	accepted chan accepted
}

type accepted struct {
	conn net.Conn
	err  error
}

func listen(t *testing.T, key ed25519.PrivateKey, signer peer.ID) node {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	nl, err := privval.NewNoiseListener(ln, cmted25519.PrivKey(key), []peer.ID{signer})
	if err != nil {
		t.Fatal(err)
	}
	n := node{ln.Addr().String(), make(chan accepted, 1)}
	go func() {
		c, err := nl.Accept()
		n.accepted <- accepted{c, err}
	}()
	return n
}

// small hands out at most max bytes a Read, so that records arrive in parts.
type small struct {
	net.Conn
	max int
}

func (s small) Read(p []byte) (int, error) { return s.Conn.Read(p[:min(len(p), s.max)]) }

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func connect(t *testing.T, readMax int) (*noiseconn.Conn, net.Conn) {
	t.Helper()
	signerKey, nodeKey := newKey(t), newKey(t)
	n := listen(t, nodeKey, libp2pID(t, signerKey))
	ours, err := noiseconn.Client(small{dial(t, n.addr), readMax}, signerKey, ourID(t, nodeKey))
	if err != nil {
		t.Fatal(err)
	}
	theirs := <-n.accepted
	if theirs.err != nil {
		t.Fatal(theirs.err)
	}
	t.Cleanup(func() { theirs.conn.Close() })
	for _, c := range []net.Conn{ours, theirs.conn} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return ours, theirs.conn
}

// say writes msg on one side and reads it on the other.
func say(from io.Writer, to io.Reader, msg []byte) error {
	written := make(chan error, 1)
	go func() {
		n, err := from.Write(msg)
		if err == nil && n != len(msg) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	got := make([]byte, len(msg))
	_, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	if !bytes.Equal(got, msg) {
		return fmt.Errorf("%d bytes arrived changed", len(msg))
	}
	return nil
}

func TestMessages(t *testing.T) {
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	for _, readMax := range []int{1, 13, 1044, 1 << 20} {
		t.Run(fmt.Sprintf("reads of at most %d bytes", readMax), func(t *testing.T) {
			ours, theirs := connect(t, readMax)
			sizes := []int{65518, 65519, 65520, 1 << 20}
			step := 1
			if readMax < 1044 {
				step = 97
			}
			for size := 0; size <= 5000; size += step {
				sizes = append(sizes, size)
			}
			for _, size := range sizes {
				if err := say(ours, theirs, msg[:size]); err != nil {
					t.Fatalf("to the node, %d bytes: %v", size, err)
				}
				if err := say(theirs, ours, msg[:size]); err != nil {
					t.Fatalf("from the node, %d bytes: %v", size, err)
				}
			}
		})
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	ours, theirs := connect(t, 1<<20)
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	done := make(chan error, 2)
	go func() { done <- say(ours, theirs, msg) }()
	go func() { done <- say(theirs, ours, msg) }()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
}

func TestWrongPin(t *testing.T) {
	signerKey, nodeKey := newKey(t), newKey(t)
	n := listen(t, nodeKey, libp2pID(t, signerKey))
	c := dial(t, n.addr)
	want := ourID(t, newKey(t))
	_, err := noiseconn.Client(c, signerKey, want)
	var mismatch *noiseconn.PeerMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v, want a PeerMismatchError", err)
	}
	if mismatch.Got != ourID(t, nodeKey) || mismatch.Want != want {
		t.Errorf("got %+v", *mismatch)
	}
	c.Close()
	if theirs := <-n.accepted; theirs.err == nil {
		t.Error("the node took a signer that left")
	}
}

// A node that pins another signer lets the handshake end, then hangs up.
func TestSignerNotAllowed(t *testing.T) {
	nodeKey := newKey(t)
	n := listen(t, nodeKey, libp2pID(t, newKey(t)))
	c, err := noiseconn.Client(dial(t, n.addr), newKey(t), ourID(t, nodeKey))
	if err != nil {
		t.Fatal(err)
	}
	if theirs := <-n.accepted; theirs.err == nil {
		t.Error("the node took a signer that it does not know")
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want %v", err, io.EOF)
	}
}

// dialLibp2p is what CometBFT's tests and its KMS use on the signer's side.
func dialLibp2p(conn net.Conn, key ed25519.PrivateKey, node peer.ID) (net.Conn, error) {
	identity, err := lp2p.PrivateKeyFromCosmosKey(cmted25519.PrivKey(key))
	if err != nil {
		return nil, err
	}
	transport, err := libp2pnoise.New(libp2pnoise.ID, identity, nil)
	if err != nil {
		return nil, err
	}
	return transport.SecureOutbound(context.Background(), conn, node)
}
