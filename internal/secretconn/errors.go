package secretconn

import (
	"errors"
	"fmt"
)

// What a peer can do wrong.
var (
	// errMalformed: a message that no node sends.
	errMalformed = errors.New("malformed message")
	// errLowOrder: an ephemeral key that makes the shared secret guessable.
	errLowOrder = errors.New("ephemeral key of low order")
	// errReflected: our own ephemeral key, sent back to us.
	errReflected = errors.New("peer sent our own ephemeral key back")
	// errBadSignature: the peer does not hold the key that it shows, or
	// somebody stands in between.
	errBadSignature = errors.New("signature over the handshake does not verify")
	// errForged: a record that was changed, replayed, left out or reordered.
	errForged = errors.New("record does not authenticate")
	// errExhausted: 2⁶⁴-1 records were sent or received under one key.
	errExhausted = errors.New("no nonces left, dial again")
)

// PeerMismatchError says that the peer proved another identity than the pinned
// one. Both ids are as [PeerID] returns them.
type PeerMismatchError struct {
	Got, Want string
}

func (e *PeerMismatchError) Error() string {
	return fmt.Sprintf("peer has node id %s, but %s is pinned (a stock node makes a new id at every start)", e.Got, e.Want)
}
