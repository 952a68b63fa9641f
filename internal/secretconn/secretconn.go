// Package secretconn is CometBFT's SecretConnection, which secures a privval
// connection over tcp: [Client] runs the handshake on a connection and returns
// another one whose bytes are encrypted. The bytes on the wire are the same from
// v0.34 to v2 (p2p/conn/secret_connection.go).
//
// It is a Station-to-Station protocol: X25519 keys made for the connection,
// each side's Ed25519 identity as a signature over the transcript, then records
// under ChaCha20-Poly1305. It is symmetric, so two Clients can talk to each
// other.
//
// It is not an authentication of the node unless a node id is pinned, and a
// stock node cannot be pinned: it makes a new identity for its privval listener
// at every start and takes any signer's. Without a pin the connection is
// encrypted against those who listen, and open to whoever stands in between.
//
// Nothing that comes from the peer is trusted before its signature was
// verified. What is trusted: the system's randomness and the libraries.
package secretconn

import (
	"bufio"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"time"
)

// PeerID returns CometBFT's node id of an Ed25519 key, as in tcp://id@host:port:
// the first 20 bytes of its SHA-256 as 40 lower-case hex digits (p2p/key.go).
func PeerID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:20])
}

// Client runs the handshake on conn with the identity self and returns the
// secured connection. wantID pins the peer's node id, as [PeerID] returns it;
// "" takes any peer.
//
// A node's kernel takes a connection long before the node does, so a second
// signer waits in silence until the first one is gone. Client therefore waits
// for the peer's first byte without a deadline (close conn to give up), and
// from there for at most [HandshakeTimeout]. conn must take the 35 bytes that
// are sent first without a reader on the other side, as every socket does.
//
// Errors are what a peer can do wrong, a [*PeerMismatchError], or conn's own. After
// an error conn is of no use; closing it is the caller's part.
func Client(conn net.Conn, self ed25519.PrivateKey, wantID string) (*Conn, error) {
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make an ephemeral key: %w", err)
	}
	return handshake(conn, self, wantID, ephemeral)
}

func handshake(conn net.Conn, self ed25519.PrivateKey, wantID string, ephemeral *ecdh.PrivateKey) (*Conn, error) {
	if len(self) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("identity key has %d bytes, want %d", len(self), ed25519.PrivateKeySize)
	}
	if wantID != "" && !isPeerID(wantID) {
		return nil, fmt.Errorf("node id %q is not 40 lower-case hex digits", wantID)
	}
	c := &Conn{conn: conn, in: bufio.NewReaderSize(conn, readBuffer)}
	theirs, err := c.swapEphemeral(ephemeral.PublicKey().Bytes())
	if err != nil {
		return nil, fmt.Errorf("cannot exchange ephemeral keys: %w", err)
	}
	keys, err := derive(ephemeral, theirs)
	if err != nil {
		return nil, fmt.Errorf("cannot agree on keys: %w", err)
	}
	c.send, c.recv = keys.send, keys.recv
	if err := c.swapIdentity(self, keys.challenge); err != nil {
		return nil, fmt.Errorf("cannot authenticate the peer: %w", err)
	}
	if got := PeerID(c.remote); wantID != "" && got != wantID {
		return nil, &PeerMismatchError{Got: got, Want: wantID}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("cannot clear the handshake's deadline: %w", err)
	}
	return c, nil
}

func isPeerID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 20 && hex.EncodeToString(b) == s
}
