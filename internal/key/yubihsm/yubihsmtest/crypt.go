package yubihsmtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
)

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// passwords remembers passwordKeys: the derivation takes milliseconds on purpose.
var passwords sync.Map

// passwordKeys returns the two keys, for encryption and MAC, that a password stands for.
func passwordKeys(password string) []byte {
	if keys, ok := passwords.Load(password); ok {
		return slices.Clone(keys.([]byte))
	}
	keys, err := pbkdf2.Key(sha256.New, password, []byte("Yubico"), 10000, 32)
	if err != nil {
		panic(err) // no password makes it
	}
	passwords.Store(password, slices.Clone(keys))
	return keys
}

func newAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the callers have checked the length
	}
	return block
}

// cmac returns the AES-CMAC of the parts (RFC 4493).
func cmac(key []byte, parts ...[]byte) []byte {
	block := newAES(key)
	var message []byte
	for _, p := range parts {
		message = append(message, p...)
	}
	sub := make([]byte, 16)
	block.Encrypt(sub, sub)
	double(sub)
	if n := len(message) % 16; n != 0 || len(message) == 0 {
		double(sub)
		message = append(append(message, 0x80), make([]byte, 15-n)...)
	}
	last := message[len(message)-16:]
	subtle.XORBytes(last, last, sub)
	mac := make([]byte, 16)
	for ; len(message) > 0; message = message[16:] {
		subtle.XORBytes(mac, mac, message[:16])
		block.Encrypt(mac, mac)
	}
	return mac
}

// double multiplies by x in the field of 2^128 elements.
func double(b []byte) {
	carry := b[0] >> 7
	for i := range 15 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ carry*0x87
}

// derive is the key derivation of SCP03, to bits of 64 or 128.
func derive(key []byte, constant byte, context []byte, bits uint16) []byte {
	label := make([]byte, 16)
	label[11] = constant
	binary.BigEndian.PutUint16(label[13:], bits)
	label[15] = 1
	return cmac(key, label, context)[:bits/8]
}

// pad fills up to a whole block, always with at least one byte.
func pad(b []byte) []byte {
	b = append(b[:len(b):len(b)], 0x80)
	return append(b, make([]byte, (16-len(b)%16)%16)...)
}

// unpad takes off what pad adds; false if there is none.
func unpad(b []byte) ([]byte, bool) {
	for i := len(b) - 1; i >= 0; i-- {
		switch b[i] {
		case 0x80:
			return b[:i], true
		case 0:
		default:
			return nil, false
		}
	}
	return nil, false
}

// The nonce and the tag of a wrapped object, in bytes.
const (
	nonceSize = 13
	tagSize   = 16
)

// ccmSeal encrypts with AES-CCM (RFC 3610): nonce, ciphertext, tag.
func ccmSeal(key, plain []byte) []byte {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return ccmSealWith(key, nonce, plain)
}

func ccmSealWith(key, nonce, plain []byte) []byte {
	out := append([]byte(nil), nonce...)
	tag := ccmTag(key, nonce, plain)
	return append(append(out, ccmCrypt(key, nonce, plain)...), tag...)
}

// ccmOpen decrypts what ccmSeal made.
func ccmOpen(key, sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, errors.New("too short")
	}
	nonce, rest := sealed[:nonceSize], sealed[nonceSize:]
	plain := ccmCrypt(key, nonce, rest[:len(rest)-tagSize])
	if subtle.ConstantTimeCompare(ccmTag(key, nonce, plain), rest[len(rest)-tagSize:]) != 1 {
		return nil, errors.New("the tag is wrong")
	}
	return plain, nil
}

// ccmBlock is a counter block, or the first block of the MAC.
func ccmBlock(flags byte, nonce []byte, n int) []byte {
	b := append([]byte{flags}, nonce...)
	return binary.BigEndian.AppendUint16(b, uint16(n))
}

func ccmCrypt(key, nonce, in []byte) []byte {
	out := make([]byte, len(in))
	cipher.NewCTR(newAES(key), ccmBlock(1, nonce, 1)).XORKeyStream(out, in)
	return out
}

func ccmTag(key, nonce, plain []byte) []byte {
	block := newAES(key)
	mac := ccmBlock(8*((tagSize-2)/2)+1, nonce, len(plain))
	block.Encrypt(mac, mac)
	padded := append(append([]byte(nil), plain...), make([]byte, (16-len(plain)%16)%16)...)
	for ; len(padded) > 0; padded = padded[16:] {
		subtle.XORBytes(mac, mac, padded[:16])
		block.Encrypt(mac, mac)
	}
	first := ccmBlock(1, nonce, 0)
	block.Encrypt(first, first)
	subtle.XORBytes(mac, mac, first)
	return mac
}
