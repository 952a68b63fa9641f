// Package noiseconn is libp2p's Noise as CometBFT v0.40 secures a privval
// connection with it (noise://peer-id@host:port): [Client] runs the handshake
// on a connection and returns another one whose bytes are encrypted.
//
// The signer is the initiator of Noise_XX_25519_ChaChaPoly_SHA256. The static
// keys are made for the connection; each side signs its own with its Ed25519
// identity, which is what a [PeerID] names. There is no protocol negotiation
// before the handshake and no prologue in it. Sources: the Noise specification,
// libp2p's specs/noise, and CometBFT's privval/noise_listener.go.
//
// It is not the whole of libp2p: no other kind of identity key, no early data,
// no streams.
//
// Both sides are pinned: [Client] takes no node but the pinned one, and the node
// takes no signer but its own. Nothing that comes from the peer is trusted
// before its signature was verified. What is trusted: the system's randomness
// and the libraries.
package noiseconn

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client runs the handshake on conn with the identity self and returns the
// secured connection. want pins the node; the zero PeerID is refused.
//
// A node's kernel takes a connection long before the node does, so a second
// signer waits in silence until the first one is gone. Client therefore waits
// for the peer's first byte without a deadline (close conn to give up), and
// from there for at most [HandshakeTimeout].
//
// The node judges our identity after Client is done: a node that pins another
// signer closes the connection, and the first Read ends with io.EOF.
//
// Errors are what a peer can do wrong, a [*PeerMismatchError], or conn's own. After
// an error conn is of no use; closing it is the caller's part.
func Client(conn net.Conn, self ed25519.PrivateKey, want PeerID) (*Conn, error) {
	return handshake(conn, self, want, rand.Reader)
}

func handshake(conn net.Conn, self ed25519.PrivateKey, want PeerID, random io.Reader) (*Conn, error) {
	if len(self) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("identity key has %d bytes, want %d", len(self), ed25519.PrivateKeySize)
	}
	if want == (PeerID{}) {
		return nil, errors.New("no peer id is pinned for the node")
	}
	h, err := newInitiator(conn, random)
	if err != nil {
		return nil, fmt.Errorf("cannot make keys: %w", err)
	}
	defer h.wipe()
	got, err := h.readIdentity()
	if err != nil {
		return nil, fmt.Errorf("cannot authenticate the node: %w", err)
	}
	// An impostor does not learn our identity.
	if got != want {
		return nil, &PeerMismatchError{Got: got, Want: want}
	}
	send, recv, err := h.writeIdentity(self)
	if err != nil {
		return nil, fmt.Errorf("cannot send our identity: %w", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("cannot clear the handshake's deadline: %w", err)
	}
	return &Conn{conn: conn, in: h.in, send: send, recv: recv}, nil
}
