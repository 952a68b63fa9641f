package yubihsm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// key128 is a key of AES-128.
type key128 [16]byte

// block returns the cipher of the key.
func (k *key128) block() cipher.Block {
	b, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // 16 bytes are a key
	}
	return b
}

// cmac returns the AES-CMAC of all parts in a row (RFC 4493, NIST SP 800-38B).
func (k *key128) cmac(parts ...[]byte) (mac [16]byte) {
	var message []byte
	for _, part := range parts {
		message = append(message, part...)
	}
	block := k.block()
	var last [16]byte
	block.Encrypt(last[:], last[:])
	double(&last)
	whole := (len(message) - 1) / 16 * 16 // the last block stays, be it full or not
	if len(message) == 0 || len(message)%16 != 0 {
		double(&last)
		whole = len(message) / 16 * 16
		last[len(message)-whole] ^= 0x80
	}
	for i := 0; i < whole; i += 16 {
		subtle.XORBytes(mac[:], mac[:], message[i:i+16])
		block.Encrypt(mac[:], mac[:])
	}
	subtle.XORBytes(last[:], last[:], message[whole:])
	subtle.XORBytes(mac[:], mac[:], last[:])
	block.Encrypt(mac[:], mac[:])
	return mac
}

// double multiplies by x in GF(2^128) as CMAC has it, in constant time.
func double(b *[16]byte) {
	carry := b[0] >> 7
	for i := range 15 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ carry*0x87
}
