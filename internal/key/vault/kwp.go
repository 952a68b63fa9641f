package vault

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// wrapKey encrypts secret as transit's import takes it: a fresh AES-256 key under
// RSA-OAEP with SHA-256, then secret under that key by AES-KWP (PKCS #11's
// CKM_RSA_AES_KEY_WRAP).
func wrapKey(to *rsa.PublicKey, secret []byte) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, key, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt the key for the server: %w", err)
	}
	wrapped, err := wrapPadded(key, secret)
	if err != nil {
		return nil, err
	}
	return append(sealed, wrapped...), nil
}

// wrapPadded is AES key wrap with padding, RFC 5649, section 4.1. plain is not empty.
func wrapPadded(key, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	n := (len(plain) + 7) / 8
	out := make([]byte, 8*(n+1))
	binary.BigEndian.PutUint32(out, 0xA65959A6)
	binary.BigEndian.PutUint32(out[4:], uint32(len(plain)))
	copy(out[8:], plain)
	if n == 1 {
		block.Encrypt(out, out)
		return out, nil
	}
	// RFC 3394, section 2.2.1: out begins with A, and b is A and one block.
	var b [16]byte
	defer clear(b[:])
	for t := range 6 * n {
		part := out[8*(t%n+1):][:8]
		copy(b[:8], out)
		copy(b[8:], part)
		block.Encrypt(b[:], b[:])
		copy(part, b[8:])
		var count [8]byte
		binary.BigEndian.PutUint64(count[:], uint64(t+1))
		subtle.XORBytes(out[:8], b[:8], count[:])
	}
	return out, nil
}
