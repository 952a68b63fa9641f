// Package gcmsiv is AES-GCM-SIV, RFC 8452, as far as an operator needs it: what tmkms-light's
// enclave has encrypted is opened by it. It is slow, and takes a time that depends on what it
// is given, so that nothing uses it where others measure; no enclave links it.
package gcmsiv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// NonceSize and Overhead are the bytes of a nonce, and of the tag after a ciphertext.
const (
	NonceSize = 12
	Overhead  = 16
)

// maxSize bounds what is encrypted in bytes, far below the 2^36 of the RFC.
const maxSize = 1 << 20

var errOpen = errors.New("it is damaged, or encrypted under another key")

// Seal encrypts plain under a key of 16 or 32 bytes.
func Seal(key, nonce, plain, additional []byte) ([]byte, error) {
	auth, block, err := derive(key, nonce)
	if err != nil {
		return nil, err
	}
	if len(plain) > maxSize || len(additional) > maxSize {
		return nil, errors.New("it is too long to encrypt")
	}
	tag := tagOf(auth, block, nonce, plain, additional)
	return append(crypt(block, tag, plain), tag[:]...), nil
}

// Open decrypts what Seal returned.
func Open(key, nonce, sealed, additional []byte) ([]byte, error) {
	auth, block, err := derive(key, nonce)
	if err != nil {
		return nil, err
	}
	if len(sealed) < Overhead || len(sealed) > maxSize+Overhead || len(additional) > maxSize {
		return nil, errOpen
	}
	tag := [16]byte(sealed[len(sealed)-Overhead:])
	plain := crypt(block, tag, sealed[:len(sealed)-Overhead])
	want := tagOf(auth, block, nonce, plain, additional)
	if subtle.ConstantTimeCompare(tag[:], want[:]) != 1 {
		clear(plain)
		return nil, errOpen
	}
	return plain, nil
}

// derive returns the keys of a nonce, RFC 8452, 4.
func derive(key, nonce []byte) (auth element, block cipher.Block, err error) {
	if len(key) != 16 && len(key) != 32 || len(nonce) != NonceSize {
		return auth, nil, errors.New("a key of 16 or 32 bytes and a nonce of 12 are needed")
	}
	generator, err := aes.NewCipher(key)
	if err != nil {
		return auth, nil, err
	}
	var keys []byte
	for i := range uint32(2 + len(key)/8) {
		in := append(binary.LittleEndian.AppendUint32(nil, i), nonce...)
		generator.Encrypt(in, in)
		keys = append(keys, in[:8]...)
	}
	defer clear(keys)
	block, err = aes.NewCipher(keys[16:])
	return elementOf(keys[:16]), block, err
}

func tagOf(auth element, block cipher.Block, nonce, plain, additional []byte) (tag [16]byte) {
	var sum element
	for _, part := range [][]byte{additional, plain} {
		for len(part) > 0 {
			var padded [16]byte
			part = part[copy(padded[:], part):]
			sum = sum.plus(elementOf(padded[:])).dot(auth)
		}
	}
	sum = sum.plus(element{uint64(len(additional)) * 8, uint64(len(plain)) * 8}).dot(auth)
	binary.LittleEndian.PutUint64(tag[:], sum.low)
	binary.LittleEndian.PutUint64(tag[8:], sum.high)
	subtle.XORBytes(tag[:NonceSize], tag[:NonceSize], nonce)
	tag[15] &= 0x7f
	block.Encrypt(tag[:], tag[:])
	return tag
}

// crypt is AES in counter mode as the RFC has it: the counter is the first four bytes of the
// tag, little-endian.
func crypt(block cipher.Block, tag [16]byte, in []byte) []byte {
	out := make([]byte, len(in), len(in)+Overhead)
	tag[15] |= 0x80
	count := binary.LittleEndian.Uint32(tag[:])
	for done := 0; done < len(in); count++ {
		var stream [16]byte
		binary.LittleEndian.PutUint32(tag[:], count)
		block.Encrypt(stream[:], tag[:])
		done += subtle.XORBytes(out[done:], in[done:], stream[:])
	}
	return out
}

// element is one of POLYVAL's field: bit i is the coefficient of x to the i.
type element struct{ low, high uint64 }

func elementOf(b []byte) element {
	return element{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

func (a element) plus(b element) element { return element{a.low ^ b.low, a.high ^ b.high} }

// dot returns a·b·x^-128 modulo x^128 + x^127 + x^126 + x^121 + 1, RFC 8452, 3.
func (a element) dot(b element) (r element) {
	for i := range 128 {
		word := a.low
		if i >= 64 {
			word = a.high
		}
		if word>>(i%64)&1 == 1 {
			r = r.plus(b)
		}
		// Times x^-1: what would fall off is the modulus less.
		odd := r.low & 1
		r.low = r.low>>1 | r.high<<63
		r.high = r.high>>1 ^ odd*0xe100_0000_0000_0000
	}
	return r
}
