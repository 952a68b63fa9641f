// Package kmstest is the other side of a recipient, for tests: it seals
// envelopes as AWS KMS does, for a KMS that a test plays. No program imports it.
package kmstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxPlaintext bounds in bytes what Seal takes.
const MaxPlaintext = 6144

// Seal returns a CiphertextForRecipient with the plaintext, for the RSA-2048 key
// that is spki in DER: the public_key of an attestation document. It is
// element by element as AWS writes it: of indefinite length where AWS does
// that, with one recipient by the SHA-256 of spki.
func Seal(spki, plaintext []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("cannot seal %d bytes, only %d", len(plaintext), MaxPlaintext)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("cannot read the recipient's key: %w", err)
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok || key.Size() != 256 {
		return nil, errors.New("the recipient's key is not RSA-2048")
	}
	secret, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	rand.Read(secret)
	rand.Read(iv)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, secret, nil)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	n := aes.BlockSize - len(plaintext)%aes.BlockSize
	ciphertext := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, ciphertext)
	id := sha256.Sum256(spki)
	return encode(id[:], wrapped, iv, ciphertext), nil
}

func encode(recipient, wrapped, iv, ciphertext []byte) []byte {
	version := unhex("020102")
	recipientInfo := definite(0x30, version, definite(0x80, recipient), unhex(
		"303c06092a864886f70d010107302fa00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500"),
		definite(0x04, wrapped))
	algorithm := definite(0x30, unhex("060960864801650304012a"), definite(0x04, iv))
	content := indefinite(0x30, unhex("06092a864886f70d010701"), algorithm, indefinite(0xa0, definite(0x04, ciphertext)))
	data := indefinite(0x30, version, definite(0x31, recipientInfo), content)
	return indefinite(0x30, unhex("06092a864886f70d010703"), indefinite(0xa0, data))
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func definite(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

func indefinite(tag byte, parts ...[]byte) []byte {
	return append(append([]byte{tag, 0x80}, bytes.Join(parts, nil)...), 0, 0)
}
