package noiseconn

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// PeerID names an Ed25519 identity in libp2p. Such a name is the key itself,
// only written differently: base58btc of an identity multihash (code 0, length
// 36) of the protobuf PublicKey{1: type 1 (Ed25519), 2: key}, which always
// begins with 12D3Koo and has 52 characters (libp2p specs/peer-ids). CometBFT
// prints its own with `cometbft show-node-id --libp2p`.
//
// The zero PeerID names nobody.
type PeerID [ed25519.PublicKeySize]byte

const (
	identityHead  = "\x08\x01\x12\x20"
	multihashHead = "\x00\x24" + identityHead
	peerIDSize    = 52
	base58        = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
)

// errPeerID names the one form that is taken; libp2p has others, for keys and
// encodings that a CometBFT node does not use.
var errPeerID = errors.New("not a peer id of an Ed25519 key (12D3Koo…, 52 characters; see `cometbft show-node-id --libp2p`)")

// PeerIDOf returns the peer id of a public key of 32 bytes; it panics at
// another size.
func PeerIDOf(key ed25519.PublicKey) PeerID { return PeerID(key) }

// ParsePeerID reads what [PeerID.String] writes, and nothing else.
func ParsePeerID(s string) (PeerID, error) {
	if len(s) != peerIDSize {
		return PeerID{}, fmt.Errorf("%.80q is %w", s, errPeerID)
	}
	n := new(big.Int)
	for i := range len(s) {
		digit := strings.IndexByte(base58, s[i])
		if digit < 0 {
			return PeerID{}, fmt.Errorf("%.80q is %w", s, errPeerID)
		}
		n.Mul(n, big.NewInt(58)).Add(n, big.NewInt(int64(digit)))
	}
	id := PeerID(n.FillBytes(make([]byte, 40))[40-ed25519.PublicKeySize:])
	if id.String() != s || id == (PeerID{}) {
		return PeerID{}, fmt.Errorf("%.80q is %w", s, errPeerID)
	}
	return id, nil
}

// String returns the form 12D3Koo….
func (id PeerID) String() string {
	n := new(big.Int).SetBytes(append([]byte(multihashHead), id[:]...))
	var s [peerIDSize]byte
	digit := new(big.Int)
	for i := len(s) - 1; i > 0; i-- {
		n.DivMod(n, big.NewInt(58), digit)
		s[i] = base58[digit.Int64()]
	}
	// The multihash begins with one zero byte, which base58btc writes as a 1.
	s[0] = base58[0]
	return string(s[:])
}
