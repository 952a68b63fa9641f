package soft

import (
	"crypto/sha512"
	"fmt"

	"filippo.io/edwards25519"
)

// Combine makes the Ed25519 key whose secret scalar was dealt in shares: the value
// f(id) of a polynomial over the integers modulo the order of the group, for each id,
// where f(0) is the scalar. Each share has 32 bytes, little endian and reduced. It
// takes as many shares as the polynomial has coefficients; what fewer give is another
// key, so the caller compares the public key. (unit410/threshold-ed25519, DealShares;
// Horcrux deals with it.)
//
//	f(0) = Σ f(i) · Π_{j≠i} j / (j − i)
//
// The arithmetic takes the same time whatever the secrets are.
func Combine(shares map[int][]byte) (*Key, error) {
	sum := edwards25519.NewScalar()
	defer func() { *sum = edwards25519.Scalar{} }()
	for i, share := range shares {
		if i < 1 || i > 255 {
			return nil, fmt.Errorf("a share has the number %d, not 1 to 255", i)
		}
		f, err := new(edwards25519.Scalar).SetCanonicalBytes(share)
		if err != nil {
			return nil, fmt.Errorf("share %d is not a reduced scalar of 32 bytes", i)
		}
		sum.MultiplyAdd(f, lagrange(i, shares), sum)
		*f = edwards25519.Scalar{}
	}
	secret := sum.Bytes()
	defer clear(secret)
	return fromScalar(secret)
}

// lagrange returns Π j / (j − i) over the other numbers j.
func lagrange(i int, shares map[int][]byte) *edwards25519.Scalar {
	above, below := small(1), small(1)
	for j := range shares {
		if j != i {
			above.Multiply(above, small(j))
			below.Multiply(below, new(edwards25519.Scalar).Subtract(small(j), small(i)))
		}
	}
	return above.Multiply(above, new(edwards25519.Scalar).Invert(below))
}

// small returns n, 0 to 255, as a scalar.
func small(n int) *edwards25519.Scalar {
	var b [32]byte
	b[0] = byte(n)
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(b[:])
	if err != nil {
		panic("soft: a byte is no longer below the group's order") // its only error
	}
	return s
}

// barePrefix separates the nonces of a bare scalar from all other uses of a hash of
// it.
const barePrefix = "privyseal ed25519 nonce prefix of a bare scalar\x00"

// fromScalar makes the key with a bare scalar, reduced, which came without seed and
// prefix. RFC 8032, 5.1.6, makes the nonce of a secret prefix and the message; any
// prefix will do that nobody else knows and that is always the same for the key:
// here it is half of a SHA-512 of a text of its own followed by the scalar. Signatures
// verify like any other.
func fromScalar(s []byte) (*Key, error) {
	h := sha512.New()
	h.Write([]byte(barePrefix))
	h.Write(s)
	prefix := h.Sum(nil)
	defer clear(prefix)
	b := make([]byte, 0, expandedSize)
	b = append(append(b, s...), prefix[:32]...)
	defer clear(b)
	return fromExpanded(b)
}
