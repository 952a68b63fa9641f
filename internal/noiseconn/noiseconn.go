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
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/flynn/noise"
)

// HandshakeTimeout bounds the handshake from the peer's first byte to its end,
// the same as for tcp.
const HandshakeTimeout = 3 * time.Second

// What a peer can do wrong.
var (
	// errMalformed: a message that no node sends.
	errMalformed = errors.New("malformed message")
	// errHandshake: a handshake message that does not authenticate, or with
	// a key of low order.
	errHandshake = errors.New("handshake message does not authenticate")
	// errBadSignature: the peer does not hold the identity that it shows.
	errBadSignature = errors.New("signature over the static key does not verify")
	// errForged: a record that was changed, replayed, left out or reordered.
	errForged = errors.New("record does not authenticate")
	// errExhausted: 2⁶⁴-1 records were sent or received under one key.
	errExhausted = errors.New("no nonces left, dial again")
)

// PeerMismatchError says that the peer proved another identity than the pinned
// one.
type PeerMismatchError struct {
	Got, Want PeerID
}

func (e *PeerMismatchError) Error() string {
	return fmt.Sprintf("node is %s, but %s is pinned", e.Got, e.Want)
}

// Conn is a connection after the handshake. Its methods may be called from
// several goroutines, as those of every net.Conn.
//
// A Read that ends at its deadline loses nothing and can be repeated. A Write
// that fails ends the writing side, because the peer may have half a record. A
// record that does not authenticate ends the reading side.
type Conn struct {
	conn net.Conn

	readMu  sync.Mutex
	in      *bufio.Reader
	recv    *noise.CipherState
	recvErr error
	plain   []byte // the record being read, in clear
	rest    []byte // what of plain is still to be read

	writeMu sync.Mutex
	send    *noise.CipherState
	sendErr error
	out     []byte
}

var _ net.Conn = (*Conn)(nil)

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
// Errors are those above, a [*PeerMismatchError], or conn's own. After an error
// conn is of no use; closing it is the caller's part.
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
	// An impostor does not learn who we are.
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

// Close closes the underlying connection. The protocol has no farewell: the
// end of the stream is not authenticated.
func (c *Conn) Close() error { return c.conn.Close() }

// LocalAddr returns the local address of the underlying connection.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the remote address of the underlying connection.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// SetDeadline sets the deadlines of the underlying connection.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// SetReadDeadline sets the read deadline of the underlying connection.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SetWriteDeadline sets the write deadline of the underlying connection.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }
