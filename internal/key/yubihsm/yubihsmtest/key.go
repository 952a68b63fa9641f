package yubihsmtest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"hash"
	"math/big"
	"slices"

	"filippo.io/edwards25519"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// expand returns what the device keeps of a private key, which is also what a backup has
// in it: of Ed25519 the scalar with its bytes reversed, the prefix and the public key; of
// the others the scalar and both coordinates.
func expand(algorithm byte, private []byte) ([]byte, error) {
	if len(private) != 32 {
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
	case P256:
		key, err := ecdh.P256().NewPrivateKey(private)
		if err != nil {
			return nil, InvalidData
		}
		return append(slices.Clone(private), key.PublicKey().Bytes()[1:]...), nil
	case K256:
		var n secp256k1.ModNScalar
		if overflow := n.SetByteSlice(private); overflow || n.IsZero() {
			return nil, InvalidData
		}
		public := secp256k1.NewPrivateKey(&n).PubKey().SerializeUncompressed()
		return append(slices.Clone(private), public[1:]...), nil
	}
	return nil, InvalidData
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
	return secret[32:96]
}

func (c *call) putAsymmetric() ([]byte, error) {
	o, err := c.described(AsymmetricKey)
	if err != nil {
		return nil, err
	}
	if o.secret, err = expand(o.Algorithm, c.in); err != nil {
		return nil, err
	}
	o.origin = imported
	return c.store(o)
}

func (c *call) generateAsymmetric() ([]byte, error) {
	o, err := c.described(AsymmetricKey)
	if err != nil {
		return nil, err
	}
	secret, err := newSecret(o.Algorithm)
	if err != nil {
		return nil, err
	}
	return c.storeNew(o, secret)
}

// newSecret makes a key.
func newSecret(algorithm byte) ([]byte, error) {
	if algorithm != Ed25519 && algorithm != P256 && algorithm != K256 {
		return nil, InvalidData
	}
	for {
		if secret, err := expand(algorithm, random(32)); err == nil {
			return secret, nil
		}
	}
}

func (c *call) publicKey() ([]byte, error) {
	if len(c.in) == 3 && c.in[2] == byte(AsymmetricKey) {
		c.in = c.in[:2]
	}
	if len(c.in) != 2 {
		return nil, WrongLength
	}
	o, err := c.first(AsymmetricKey, 0)
	if err != nil {
		return nil, err
	}
	return append([]byte{o.Algorithm}, publicOf(o.Algorithm, o.secret)...), nil
}

func (c *call) signEdDSA() ([]byte, error) {
	o, err := c.first(AsymmetricKey, CanSignEdDSA)
	if err != nil {
		return nil, err
	}
	if o.Algorithm != Ed25519 {
		return nil, InvalidData
	}
	return signEd(o.secret, c.in), nil
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

func (c *call) signECDSA() ([]byte, error) {
	o, err := c.first(AsymmetricKey, CanSignECDSA)
	switch {
	case err != nil:
		return nil, err
	case len(c.in) == 0:
		return nil, WrongLength
	case o.Algorithm == P256:
		return signP256(o.secret, c.in)
	case o.Algorithm == K256:
		return signK256(o.secret, c.in)
	}
	return nil, InvalidData
}

func signP256(secret, hash []byte) ([]byte, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret[:32])
	if err != nil {
		return nil, InvalidData
	}
	return ecdsa.SignASN1(rand.Reader, key, hash)
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
		values.S.Sub(secp256k1.S256().N, values.S)
	}
	return asn1.Marshal(values)
}

// blockSize is the size of a block of the hash of an HMAC; 0 of an algorithm that is none.
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

func (c *call) putHMACKey() ([]byte, error) {
	o, err := c.described(HMACKey)
	if err != nil {
		return nil, err
	}
	if o.secret, err = hmacSecret(o.Algorithm, c.in); err != nil {
		return nil, err
	}
	o.origin = imported
	return c.store(o)
}

func (c *call) generateHMACKey() ([]byte, error) {
	o, err := c.described(HMACKey)
	if err != nil {
		return nil, err
	}
	secret, err := hmacSecret(o.Algorithm, random(max(1, blockSize(o.Algorithm)/2)))
	if err != nil {
		return nil, err
	}
	return c.storeNew(o, secret)
}

func (c *call) signHMAC() ([]byte, error) {
	o, err := c.first(HMACKey, CanSignHMAC)
	if err != nil {
		return nil, err
	}
	return hmacOf(o, c.in), nil
}

func (c *call) verifyHMAC() ([]byte, error) {
	o, err := c.first(HMACKey, CanVerifyHMAC)
	if err != nil {
		return nil, err
	}
	size := newHash(o.Algorithm).Size()
	if len(c.in) < size {
		return nil, WrongLength
	}
	if bytes.Equal(hmacOf(o, c.in[size:]), c.in[:size]) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

func (c *call) pseudoRandom() ([]byte, error) {
	if len(c.in) != 2 {
		return nil, WrongLength
	}
	n := int(binary.BigEndian.Uint16(c.in))
	if n > c.d.bufferSize()-32 {
		return nil, InvalidData
	}
	return random(n), nil
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
func hmacOf(o *object, message []byte) []byte {
	n := blockSize(o.Algorithm)
	inner, outer := newHash(o.Algorithm), newHash(o.Algorithm)
	inner.Write(o.secret[:n])
	inner.Write(message)
	outer.Write(o.secret[n:])
	outer.Write(inner.Sum(nil))
	return outer.Sum(nil)
}
