package noiseconn

import (
	"errors"
	"fmt"
)

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
