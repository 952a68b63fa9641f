package backup

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// nonceSize is the length of a nonce in bytes. It leaves two for the length of the text.
const nonceSize = 13

// errTag is a text that was changed, or belongs to another key.
var errTag = errors.New("the tag is wrong")

// ccm is AES-CCM (RFC 3610) with a nonce of 13 bytes.
type ccm struct {
	block   cipher.Block
	tagSize int
}

func newCCM(key []byte, tagSize int) (ccm, error) {
	block, err := aes.NewCipher(key)
	return ccm{block, tagSize}, err
}

// seal returns ciphertext and tag of a text of up to 65535 bytes; additional, of up to
// 65279, is under the tag alone.
func (c ccm) seal(nonce, text, additional []byte) []byte {
	out := make([]byte, len(text), len(text)+c.tagSize)
	c.stream(nonce, 1).XORKeyStream(out, text)
	return append(out, c.tag(nonce, text, additional)...)
}

// open returns the text of what seal returned.
func (c ccm) open(nonce, sealed, additional []byte) ([]byte, error) {
	n := len(sealed) - c.tagSize
	if n < 0 {
		return nil, errTag
	}
	text := make([]byte, n)
	c.stream(nonce, 1).XORKeyStream(text, sealed[:n])
	if subtle.ConstantTimeCompare(c.tag(nonce, text, additional), sealed[n:]) != 1 {
		clear(text)
		return nil, errTag
	}
	return text, nil
}

// first returns a block of flags, nonce and number: a counter, or what the MAC begins with.
func first(flags byte, nonce []byte, n int) []byte {
	b := append(make([]byte, 0, aes.BlockSize), flags)
	return binary.BigEndian.AppendUint16(append(b, nonce...), uint16(n))
}

// stream encrypts and decrypts, from a block on: 0 is the tag's, and the text's begin at 1.
func (c ccm) stream(nonce []byte, block int) cipher.Stream {
	return cipher.NewCTR(c.block, first(1, nonce, block))
}

// tag returns the CBC-MAC of length, additional data and text, encrypted.
func (c ccm) tag(nonce, text, additional []byte) []byte {
	flags := byte((c.tagSize-2)/2)<<3 | 1
	if len(additional) > 0 {
		flags |= 1 << 6
		additional = append(binary.BigEndian.AppendUint16(nil, uint16(len(additional))), additional...)
	}
	mac := first(flags, nonce, len(text))
	c.block.Encrypt(mac, mac)
	for _, part := range [][]byte{additional, text} {
		for len(part) > 0 {
			n := subtle.XORBytes(mac, mac, part)
			c.block.Encrypt(mac, mac)
			part = part[n:]
		}
	}
	c.stream(nonce, 0).XORKeyStream(mac, mac)
	return mac[:c.tagSize]
}
