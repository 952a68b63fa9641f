package soft

import (
	"crypto/sha512"
	"errors"

	"filippo.io/edwards25519"
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

// scalarOf reads the scalar of an expanded key: with the bits that RFC 8032 sets, as
// it is made from a seed, or reduced, as it is made from shares. Nothing is both,
// since the first is above the order of the group.
func scalarOf(b []byte) (*edwards25519.Scalar, error) {
	if b[0]&7 == 0 && b[31]&0xc0 == 0x40 {
		return new(edwards25519.Scalar).SetBytesWithClamping(b)
	}
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(b)
	if err != nil || s.Equal(edwards25519.NewScalar()) == 1 {
		return nil, errors.New("the scalar of the secret key is neither reduced nor one that RFC 8032 makes")
	}
	return s, nil
}
