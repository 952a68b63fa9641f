package yubihsmtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"hash"
	"math/big"
	"slices"

	"filippo.io/edwards25519"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// secretSize is the length of what the device keeps of an object: -1 if any will do, 0 of
// what it does not know.
func secretSize(typ Type, algorithm byte) int {
	switch {
	case typ == Opaque && (algorithm == OpaqueData || algorithm == OpaqueX509):
		return -1
	case typ == AuthenticationKey && algorithm == AES128Auth:
		return 32
	case typ == AsymmetricKey:
		return 3 * privateSize(algorithm)
	case typ == WrapKey:
		return wrapKeySize(algorithm)
	case typ == HMACKey:
		return 2 * blockSize(algorithm)
	}
	return 0
}

// wrapKeySize is the length of a wrap key in bytes; 0 of an unknown algorithm.
func wrapKeySize(algorithm byte) int {
	return map[byte]int{AES128CCM: 16, AES192CCM: 24, AES256CCM: 32}[algorithm]
}

// curves are the curves of the algorithms that the standard library knows.
var curves = map[byte]elliptic.Curve{P224: elliptic.P224(), P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()}

// privateSize is the length of a private key in bytes; 0 of an unknown algorithm.
func privateSize(algorithm byte) int {
	if curve := curves[algorithm]; curve != nil {
		return (curve.Params().BitSize + 7) / 8
	}
	return map[byte]int{Ed25519: 32, K256: 32}[algorithm]
}

// expand returns what the device keeps of a private key, which is also what a backup has
// in it: of Ed25519 the scalar with its bytes reversed, the prefix and the public key; of
// the others the scalar and both coordinates.
func expand(algorithm byte, private []byte) ([]byte, error) {
	switch size := privateSize(algorithm); {
	case size == 0:
		return nil, InvalidData
	case len(private) != size:
		return nil, WrongLength
	}
	switch algorithm {
	case Ed25519:
		h := sha512.Sum512(private)
		h[0] &= 248
		h[31] = h[31]&127 | 64
		scalar := slices.Clone(h[:32])
		slices.Reverse(scalar)
		return bytes.Join([][]byte{scalar, h[32:], edScalar(scalar).public()}, nil), nil
	case K256:
		var n secp256k1.ModNScalar
		if overflow := n.SetByteSlice(private); overflow || n.IsZero() {
			return nil, InvalidData
		}
		public := secp256k1.NewPrivateKey(&n).PubKey().SerializeUncompressed()
		return append(slices.Clone(private), public[1:]...), nil
	}
	key, err := ecdsa.ParseRawPrivateKey(curves[algorithm], private)
	if err != nil {
		return nil, InvalidData
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, InvalidData
	}
	return append(slices.Clone(private), public[1:]...), nil
}

type edKey struct{ scalar *edwards25519.Scalar }

// edScalar reads a scalar with its bytes reversed.
func edScalar(reversed []byte) edKey {
	b := slices.Clone(reversed)
	slices.Reverse(b)
	wide := make([]byte, 64)
	copy(wide, b)
	s, err := new(edwards25519.Scalar).SetUniformBytes(wide)
	if err != nil {
		panic(err) // 64 bytes are always right
	}
	return edKey{s}
}

func (k edKey) public() []byte { return new(edwards25519.Point).ScalarBaseMult(k.scalar).Bytes() }

// publicOf returns the public key of what expand returned: 32 bytes, or two coordinates.
func publicOf(algorithm byte, secret []byte) []byte {
	if algorithm == Ed25519 {
		return secret[64:96]
	}
	return secret[privateSize(algorithm):]
}

// newSecret makes a key.
func newSecret(algorithm byte) ([]byte, error) {
	size := privateSize(algorithm)
	if size == 0 {
		return nil, InvalidData
	}
	for {
		private := random(size)
		if algorithm == P521 {
			private[0] &= 1
		}
		if secret, err := expand(algorithm, private); err == nil {
			return secret, nil
		}
	}
}

// signEd signs by RFC 8032.
func signEd(secret, message []byte) []byte {
	key, prefix, public := edScalar(secret[:32]), secret[32:64], secret[64:96]
	r := hashToScalar(prefix, message)
	point := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	s := new(edwards25519.Scalar).MultiplyAdd(hashToScalar(point, public, message), key.scalar, r)
	return append(point, s.Bytes()...)
}

func hashToScalar(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.Sum512(bytes.Join(parts, nil))
	s, err := new(edwards25519.Scalar).SetUniformBytes(h[:])
	if err != nil {
		panic(err) // 64 bytes are always right
	}
	return s
}

// nistKey returns the private key of what expand returned; an error if its curve is not
// one of the standard library's.
func nistKey(algorithm byte, secret []byte) (*ecdsa.PrivateKey, error) {
	curve := curves[algorithm]
	if curve == nil {
		return nil, InvalidData
	}
	return ecdsa.ParseRawPrivateKey(curve, secret[:privateSize(algorithm)])
}

// signK256 signs with either s: the device does not choose the low one.
func signK256(secret, hash []byte) ([]byte, error) {
	digest := make([]byte, 32)
	copy(digest[max(0, 32-len(hash)):], hash)
	key := secp256k1.PrivKeyFromBytes(secret[:32])
	// The signature is always the same, so that its s says whether to turn it around.
	der := secpecdsa.Sign(key, digest).Serialize()
	var values struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &values); err != nil {
		return nil, err
	}
	if values.R.Bit(0) == 1 {
		values.S.Sub(secp256k1.Params().N, values.S)
	}
	return asn1.Marshal(values)
}

// publicKeyOf returns the public key as crypto/x509 wants it, which knows no secp256k1.
func publicKeyOf(algorithm byte, secret []byte) (crypto.PublicKey, error) {
	if algorithm == Ed25519 {
		return ed25519.PublicKey(slices.Clone(publicOf(algorithm, secret))), nil
	}
	key, err := nistKey(algorithm, secret)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// blockSize is the size of a block of the hash of an HMAC; 0 of an unknown algorithm.
func blockSize(algorithm byte) int {
	return map[byte]int{HMACSHA1: 64, HMACSHA256: 64, HMACSHA384: 128, HMACSHA512: 128}[algorithm]
}

// hmacSecret is what the device keeps of a key: it xored with the two pads.
func hmacSecret(algorithm byte, key []byte) ([]byte, error) {
	n := blockSize(algorithm)
	if n == 0 {
		return nil, InvalidData
	}
	if len(key) > n || len(key) == 0 {
		return nil, WrongLength
	}
	out := make([]byte, 2*n)
	copy(out, key)
	copy(out[n:], key)
	for i := range n {
		out[i] ^= 0x36
		out[n+i] ^= 0x5c
	}
	return out, nil
}

func newHash(algorithm byte) hash.Hash {
	switch algorithm {
	case HMACSHA1:
		return sha1.New()
	case HMACSHA256:
		return sha256.New()
	case HMACSHA384:
		return sha512.New384()
	}
	return sha512.New()
}

// hmacOf computes an HMAC from the two padded keys.
func hmacOf(algorithm byte, secret, message []byte) []byte {
	n := blockSize(algorithm)
	inner, outer := newHash(algorithm), newHash(algorithm)
	inner.Write(secret[:n])
	inner.Write(message)
	outer.Write(secret[n:])
	outer.Write(inner.Sum(nil))
	return outer.Sum(nil)
}
