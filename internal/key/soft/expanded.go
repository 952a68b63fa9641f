package soft

import (
	"bytes"
	"crypto/sha512"
	"errors"

	"filippo.io/edwards25519"

	"privyseal/internal/pubkey"
)

// expandedSize is the length in bytes of an expanded Ed25519 key.
const expandedSize = 64

// expanded is an Ed25519 key without its seed: what RFC 8032, 5.1.5, makes of
// one. A YubiHSM exports its keys so, and tmkms reads them; one that was dealt in
// shares has a scalar only, and a prefix of our own.
type expanded struct {
	given  []byte // the scalar s: 32 bytes, little endian, see scalarOf
	prefix []byte // 32 bytes
	scalar *edwards25519.Scalar
	public []byte
}

// fromExpanded makes the key with the 64 bytes b, scalar and prefix, which it
// copies.
func fromExpanded(b []byte) (*Key, error) {
	e := &expanded{given: bytes.Clone(b[:32]), prefix: bytes.Clone(b[32:])}
	var err error
	if e.scalar, err = scalarOf(e.given); err != nil {
		return nil, err
	}
	e.public = new(edwards25519.Point).ScalarBaseMult(e.scalar).Bytes()
	// Whoever knows the prefix has the key from one signature. These two are known to
	// everybody, and both are what a program writes that has no prefix.
	if bytes.Equal(e.prefix, e.public) || bytes.Count(e.prefix, e.prefix[:1]) == len(e.prefix) {
		return nil, errors.New("the second half of the secret key is no secret: it would give the key away with the first signature")
	}
	return newKey(pubkey.Ed25519, &secret{expanded: e})
}

// sign signs by RFC 8032, 5.1.6. The arithmetic takes the same time whatever
// the secret is.
func (e *expanded) sign(message []byte) []byte {
	r := hashScalar(e.prefix, message)
	R := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	k := hashScalar(R, e.public, message)
	s := new(edwards25519.Scalar).MultiplyAdd(k, e.scalar, r)
	return append(R, s.Bytes()...)
}

// hashScalar returns the SHA-512 of the parts, modulo the order of the group.
func hashScalar(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	s, err := new(edwards25519.Scalar).SetUniformBytes(h.Sum(nil))
	if err != nil {
		panic("soft: a SHA-512 is no longer 64 bytes") // its only error
	}
	return s
}

func (e *expanded) wipe() {
	clear(e.given)
	clear(e.prefix)
	*e.scalar = edwards25519.Scalar{}
}
