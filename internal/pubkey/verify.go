package pubkey

import (
	"crypto/ed25519"
	"crypto/sha256"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// SignatureSize returns the length of a signature in bytes, 0 for no type.
func (t Type) SignatureSize() int {
	switch t {
	case Ed25519, Secp256k1:
		return 64
	case Secp256k1Eth:
		return 65
	case MLDSA65:
		return mldsa65.SignatureSize
	}
	return 0
}

// Verify reports whether sig is a signature of message, in the encoding that
// CometBFT expects (VerifySignature in the packages of crypto/):
//
//   - ed25519: 64 bytes, RFC 8032;
//   - secp256k1: R and S of 32 bytes each over the SHA-256, S in the lower half;
//   - secp256k1eth: R, S and a byte V of 0 or 1 over the legacy Keccak-256, S in
//     the lower half, V the one that recovers the key;
//   - ml_dsa_65: 3309 bytes, FIPS 204 with an empty context.
//
// For Ed25519 it is stricter than CometBFT, which also takes signatures in the
// wider sense of ZIP 215: what passes here passes there.
func (k Key) Verify(message, sig []byte) bool {
	if k.IsZero() || len(sig) != k.typ.SignatureSize() {
		return false
	}
	switch k.typ {
	case Ed25519:
		return ed25519.Verify([]byte(k.raw), message, sig)
	case Secp256k1:
		r, s, ok := scalars(sig)
		sum := sha256.Sum256(message)
		return ok && ecdsa.NewSignature(&r, &s).Verify(sum[:], k.parsed.point)
	case Secp256k1Eth:
		return k.recovers(message, sig)
	case MLDSA65:
		return mldsa65.Verify(k.parsed.lattice, message, nil, sig)
	}
	return false
}

// recovers reports whether the key is the one that the signature R, S, V over
// the Keccak-256 of message recovers to.
func (k Key) recovers(message, sig []byte) bool {
	if _, _, ok := scalars(sig); !ok || sig[64] > 1 {
		return false
	}
	// The library expects 27 + V in front.
	compact := append([]byte{27 + sig[64]}, sig[:64]...)
	point, _, err := ecdsa.RecoverCompact(compact, keccak256(message))
	return err == nil && point.IsEqual(k.parsed.point)
}

// scalars returns R and S, and false if one is out of range or S is in the
// upper half of the order, which would make a second valid signature of each.
func scalars(sig []byte) (r, s secp256k1.ModNScalar, ok bool) {
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:64]) {
		return r, s, false
	}
	return r, s, !r.IsZero() && !s.IsZero() && !s.IsOverHalfOrder()
}
