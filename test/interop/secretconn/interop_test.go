// Package secretconn_test runs privyseal's SecretConnection against CometBFT's
// own, in one process over loopback, and makes the golden handshakes that the
// package's own tests replay.
//
// The folder's go.mod takes v0.40, v038.mod takes v0.38:
//
//	go test ./...
//	go test -modfile=v038.mod ./secretconn
package secretconn_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"

	"privyseal/internal/secretconn"
)

// tcpPair returns the two ends of a loopback connection.
func tcpPair(t *testing.T) (net.Conn, net.Conn) {
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
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// small hands out at most max bytes a Read, so that records arrive in parts.
type small struct {
	net.Conn
	max int
}

func (s small) Read(p []byte) (int, error) { return s.Conn.Read(p[:min(len(p), s.max)]) }

// connect runs privyseal's handshake on one end and CometBFT's on the other.
func connect(t *testing.T, readMax int) (*secretconn.Conn, *conn.SecretConnection) {
	t.Helper()
	a, b := tcpPair(t)
	ourKey, nodeKey := newKey(t), newKey(t)
	type result struct {
		conn *conn.SecretConnection
		err  error
	}
	node := make(chan result, 1)
	go func() {
		c, err := conn.MakeSecretConnection(b, cmted25519.PrivKey(nodeKey))
		node <- result{c, err}
	}()
	wantID := string(p2p.PubKeyToID(cmted25519.PrivKey(nodeKey).PubKey()))
	ours, err := secretconn.Client(small{a, readMax}, ourKey, wantID)
	if err != nil {
		t.Fatal(err)
	}
	theirs := <-node
	if theirs.err != nil {
		t.Fatal(theirs.err)
	}
	if !bytes.Equal(theirs.conn.RemotePubKey().Bytes(), ourKey.Public().(ed25519.PublicKey)) {
		t.Error("the node does not see our key")
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

func TestHandshakes(t *testing.T) {
	// The order of the ephemeral keys decides which side uses which key: both
	// orders occur but for a chance of one in half a million.
	for range 20 {
		ours, theirs := connect(t, 1<<20)
		if err := say(ours, theirs, []byte("from the signer")); err != nil {
			t.Fatal(err)
		}
		if err := say(theirs, ours, []byte("from the node")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMessages(t *testing.T) {
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	for _, readMax := range []int{1, 13, 1044, 1 << 20} {
		t.Run(fmt.Sprintf("reads of at most %d bytes", readMax), func(t *testing.T) {
			ours, theirs := connect(t, readMax)
			step := 1
			if readMax < 1044 {
				step = 97
			}
			for size := 0; size <= 5000; size += step {
				if err := say(ours, theirs, msg[:size]); err != nil {
					t.Fatalf("to the node, %d bytes: %v", size, err)
				}
				if err := say(theirs, ours, msg[:size]); err != nil {
					t.Fatalf("from the node, %d bytes: %v", size, err)
				}
			}
			if err := say(ours, theirs, msg); err != nil {
				t.Fatalf("to the node, 1 MiB: %v", err)
			}
			if err := say(theirs, ours, msg); err != nil {
				t.Fatalf("from the node, 1 MiB: %v", err)
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
	a, b := tcpPair(t)
	nodeKey := newKey(t)
	node := make(chan error, 1)
	go func() {
		_, err := conn.MakeSecretConnection(b, cmted25519.PrivKey(nodeKey))
		node <- err
	}()
	want := secretconn.PeerID(newKey(t).Public().(ed25519.PublicKey))
	_, err := secretconn.Client(a, newKey(t), want)
	var mismatch *secretconn.PeerMismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v, want a PeerMismatchError", err)
	}
	got := string(p2p.PubKeyToID(cmted25519.PrivKey(nodeKey).PubKey()))
	if mismatch.Got != got || mismatch.Want != want {
		t.Errorf("got %+v, want Got %s, Want %s", *mismatch, got, want)
	}
	if err := <-node; err != nil {
		t.Errorf("the node's handshake: %v", err)
	}
}
