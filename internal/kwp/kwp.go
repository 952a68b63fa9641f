// Package kwp is AES key wrap with padding, RFC 5649: how hardware security modules encrypt
// one key under another. It is deterministic, and proves that the key is whole to whoever has
// the other one. It knows nothing of what the keys are for, and trusts no input.
package kwp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// magic are the first four bytes of the alternative initial value, RFC 5649, 3. The length of
// the key follows.
const magic = 0xa65959a6

// MaxSize is how many bytes a key has at most. The RFC has no bound worth the name.
const MaxSize = 8192

// The errors of Wrap and Unwrap.
var (
	errSize = errors.New("cannot wrap a key of this size")
	errOpen = errors.New("the wrapped key is damaged, or wrapped under another key")
)

// Wrap encrypts a key of 1 to MaxSize bytes under kek, an AES key. The result is as long as
// the key, rounded up to a multiple of 8, and 8 bytes.
func Wrap(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(key) == 0 || len(key) > MaxSize {
		return nil, errSize
	}
	b := make([]byte, 8, 16+len(key))
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(key)))
	b = append(b, key...)
	b = append(b, make([]byte, (8-len(key)%8)%8)...)
	if len(b) == 16 {
		block.Encrypt(b, b)
		return b, nil
	}
	wrap(block, b)
	return b, nil
}

// wrap is W of RFC 3394, 2.2.1, in the form by index, in place.
func wrap(block cipher.Block, b []byte) {
	n := len(b)/8 - 1
	var a [16]byte
	copy(a[:8], b)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(a[8:], b[8*i:])
			block.Encrypt(a[:], a[:])
			count(&a, n*j+i)
			copy(b[8*i:8*i+8], a[8:])
		}
	}
	copy(b, a[:8])
}

// unwrap is the inverse of wrap.
func unwrap(block cipher.Block, b []byte) {
	n := len(b)/8 - 1
	var a [16]byte
	copy(a[:8], b)
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			count(&a, n*j+i)
			copy(a[8:], b[8*i:])
			block.Decrypt(a[:], a[:])
			copy(b[8*i:8*i+8], a[8:])
		}
	}
	copy(b, a[:8])
	clear(a[:])
}

// count adds the number of a step to the first half.
func count(a *[16]byte, t int) {
	binary.BigEndian.PutUint64(a[:8], binary.BigEndian.Uint64(a[:8])^uint64(t))
}

// Unwrap decrypts what Wrap returned. Anything else is one error, whatever is wrong with it.
func Unwrap(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(wrapped)%8 != 0 || len(wrapped) < 16 || len(wrapped) > MaxSize+8 {
		return nil, errOpen
	}
	b := bytes.Clone(wrapped)
	if len(b) == 16 {
		block.Decrypt(b, b)
	} else {
		unwrap(block, b)
	}
	n := binary.BigEndian.Uint32(b[4:])
	most := uint32(len(b) - 8)
	ok := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(b)^magic), 0)
	ok &= subtle.ConstantTimeLessOrEq(int(most)-7, int(n)) & subtle.ConstantTimeLessOrEq(int(n), int(most))
	// All of the padding, whose length is not known before ok is.
	var padding byte
	for i := range 7 {
		at := len(b) - 7 + i
		beyond := subtle.ConstantTimeLessOrEq(int(n), at-8)
		padding |= b[at] & byte(-beyond)
	}
	ok &= subtle.ConstantTimeByteEq(padding, 0)
	if ok != 1 {
		clear(b)
		return nil, errOpen
	}
	return b[8 : 8+n], nil
}
