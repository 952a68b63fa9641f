// Package pubkey holds the public keys of CometBFT validators: which types
// there are, how their signatures are verified, their addresses, and their JSON.
// The other texts in which chains and operators write them are in keytext.
//
// It holds no secret and signs nothing. It trusts nothing that it is given: a
// [Key] exists only with the right length and, on curves, as a point of them.
package pubkey

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	//lint:ignore SA1019 the addresses of secp256k1 keys are RIPEMD-160 digests
	"golang.org/x/crypto/ripemd160" // an old hash, but the one in secp256k1 addresses
	"golang.org/x/crypto/sha3"
)

// Type is the type of a key, under CometBFT's name for it (KeyType in the
// packages of crypto/, pub_key_types in the consensus parameters).
type Type string

const (
	Ed25519      Type = "ed25519"
	Secp256k1    Type = "secp256k1"
	Secp256k1Eth Type = "secp256k1eth" // CometBFT v0.40
	MLDSA65      Type = "ml_dsa_65"    // CometBFT v0.38.26 and v0.40
)

// ErrBLS says that a key is of the type bls12_381.
var ErrBLS = errors.New("the key type bls12_381 is not supported: it needs cgo, and CometBFT has it only in builds of its own (tag bls12381)")

// Types returns all types, the usual one first.
func Types() []Type { return []Type{Ed25519, Secp256k1, Secp256k1Eth, MLDSA65} }

// SignsInConstantTime reports whether the program that is linked here makes signatures
// of type t in a time that does not depend on the secret. Its only library for
// secp256k1, decred's, has no other functions for it than those with NonConst in their
// names. That matters where somebody untrusted can measure each signature, as the host
// of an enclave can.
func SignsInConstantTime(t Type) bool { return t == Ed25519 || t == MLDSA65 }

// ParseType returns the type with the name s. It knows bls12_381, and refuses
// it with [ErrBLS].
func ParseType(s string) (Type, error) {
	if s == "bls12_381" {
		return "", ErrBLS
	}
	for _, t := range Types() {
		if s == string(t) {
			return t, nil
		}
	}
	return "", fmt.Errorf("unknown key type %.40q: it is one of ed25519, secp256k1, secp256k1eth, ml_dsa_65", s)
}

// Size returns the length of a public key in bytes, 0 for no type.
func (t Type) Size() int {
	switch t {
	case Ed25519:
		return 32
	case Secp256k1, Secp256k1Eth:
		return secp256k1.PubKeyBytesLenCompressed
	case MLDSA65:
		return mldsa65.PublicKeySize
	}
	return 0
}

// Key is a public key. It does not change; [New] and [ParseJSON] make it. The
// zero Key is no key: it verifies nothing.
type Key struct {
	typ    Type
	raw    string
	parsed *parsed
}

// parsed is made once, because each signature is verified before it leaves. It
// has a field set where the type has one.
type parsed struct {
	point   *secp256k1.PublicKey
	lattice *mldsa65.PublicKey
}

// New returns the key of type t with the bytes b: 32 bytes for Ed25519, 33 (a
// compressed point) for secp256k1 and secp256k1eth, 1952 (FIPS 204) for
// ML-DSA-65. It copies b.
func New(t Type, b []byte) (Key, error) {
	if _, err := ParseType(string(t)); err != nil {
		return Key{}, err
	}
	if len(b) != t.Size() {
		return Key{}, fmt.Errorf("a public key of type %s has %d bytes, not %d", t, t.Size(), len(b))
	}
	k := Key{typ: t, raw: string(b), parsed: &parsed{}}
	var err error
	switch t {
	case Ed25519:
		if !isEdwardsPoint(b) {
			err = errors.New("the public key is not a point on the curve of ed25519")
		}
	case Secp256k1, Secp256k1Eth:
		if k.parsed.point, err = secp256k1.ParsePubKey(b); err != nil {
			err = fmt.Errorf("the public key is not a point on the curve of %s: %w", t, err)
		}
	case MLDSA65:
		k.parsed.lattice = new(mldsa65.PublicKey)
		err = k.parsed.lattice.UnmarshalBinary(b)
	}
	if err != nil {
		return Key{}, err
	}
	return k, nil
}

// Type returns the type, "" for the zero Key.
func (k Key) Type() Type { return k.typ }

// Bytes returns a copy of the key's bytes, in the form that [New] takes.
func (k Key) Bytes() []byte { return []byte(k.raw) }

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.typ == "" }

// Equal reports whether x is a Key of the same type and bytes, as the public
// keys of the standard library do.
func (k Key) Equal(x crypto.PublicKey) bool {
	other, ok := x.(Key)
	return ok && k.typ == other.typ && k.raw == other.raw
}

// ID returns the key's part of a state's identity: an Ed25519 key as it is, any
// other as the SHA-256 of its type name, a zero byte and its bytes.
func (k Key) ID() [32]byte {
	if k.typ == Ed25519 {
		return [32]byte([]byte(k.raw))
	}
	return sha256.Sum256([]byte(string(k.typ) + "\x00" + k.raw))
}

// Address returns the validator's address (Address in the packages of crypto/):
// the first 20 bytes of the SHA-256 of Ed25519 and ML-DSA-65 keys, the
// RIPEMD-160 of the SHA-256 of secp256k1 keys, and the Ethereum address, which
// is the last 20 bytes of the Keccak-256 of the point, of secp256k1eth keys.
func (k Key) Address() [20]byte {
	switch k.typ {
	case Secp256k1:
		sum := sha256.Sum256([]byte(k.raw))
		h := ripemd160.New()
		h.Write(sum[:])
		return [20]byte(h.Sum(nil))
	case Secp256k1Eth:
		return [20]byte(keccak256(k.parsed.point.SerializeUncompressed()[1:])[12:])
	}
	sum := sha256.Sum256([]byte(k.raw))
	return [20]byte(sum[:20])
}

// NodeID returns the address in lower-case hex, as nodes and KMS write the id
// of an identity key (p2p.PubKeyToID), and as tmkms-light prints addresses.
func (k Key) NodeID() string {
	a := k.Address()
	return hex.EncodeToString(a[:])
}

// String returns the type and the address. It is for logs.
func (k Key) String() string {
	if k.IsZero() {
		return "no key"
	}
	return fmt.Sprintf("%s %X", k.typ, k.Address())
}

// keccak256 is the hash of Ethereum, which is older than SHA-3 and pads
// differently.
func keccak256(b []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	return h.Sum(nil)
}
