// Package bech32 writes and reads bech32 (BIP 173, not bech32m), of whole bytes: public
// keys as the Cosmos SDK shows them, and passwords as tmkms makes them.
package bech32

import (
	"errors"
	"fmt"
	"strings"
)

const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// Encode encodes data after the human-readable part hrp. The text may exceed the 90
// characters of BIP 173, as keys do in the Cosmos SDK. It is the only copy of data that
// is left in memory.
func Encode(hrp string, data []byte) ([]byte, error) {
	if err := checkPrefix(hrp); err != nil {
		return nil, err
	}
	groups := fiveBits(data)
	defer clear(groups)
	text := make([]byte, 0, len(hrp)+1+len(groups)+checksumSize)
	text = append(append(text, hrp...), '1')
	for _, part := range [][]byte{groups, checksum(hrp, groups)} {
		for _, g := range part {
			text = append(text, alphabet[g])
		}
	}
	return text, nil
}

func checkPrefix(hrp string) error {
	if len(hrp) < 1 || len(hrp) > 83 {
		return errors.New("a bech32 prefix has 1 to 83 characters")
	}
	for _, c := range []byte(hrp) {
		if c < 33 || c > 126 || (c >= 'A' && c <= 'Z') {
			return errors.New("a bech32 prefix consists of visible ASCII characters, letters in lower case")
		}
	}
	return nil
}

// Decode is Encode backwards: for what it accepts, Encode returns text.
// We write no capitals; they are refused also where all letters are.
func Decode(text string) (hrp string, data []byte, err error) {
	cut := strings.LastIndexByte(text, '1')
	if cut < 0 {
		return "", nil, errors.New("bech32 has a 1 after its prefix")
	}
	hrp = text[:cut]
	if err := checkPrefix(hrp); err != nil {
		return "", nil, err
	}
	groups := []byte(text[cut+1:])
	for i, c := range groups {
		g := strings.IndexByte(alphabet, c)
		if g < 0 {
			return "", nil, fmt.Errorf("%q is not a character of bech32", c)
		}
		groups[i] = byte(g)
	}
	end := len(groups) - checksumSize
	if end < 0 || string(checksum(hrp, groups[:end])) != string(groups[end:]) {
		return "", nil, errors.New("the checksum of the bech32 text is wrong: a character is missing or mistyped")
	}
	data, err = wholeBytes(groups[:end])
	return hrp, data, err
}

// wholeBytes is fiveBits backwards.
func wholeBytes(groups []byte) ([]byte, error) {
	var out []byte
	acc, bits := uint(0), 0
	for _, g := range groups {
		acc, bits = acc<<5|uint(g), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	if bits >= 5 || acc != 0 {
		return nil, errors.New("the bech32 text ends within a byte")
	}
	return out, nil
}

// fiveBits cuts data into groups of five bits, the last filled with zeros.
func fiveBits(data []byte) []byte {
	out := make([]byte, 0, (8*len(data)+4)/5) // never grown, which would leave copies
	acc, bits := uint(0), 0
	for _, c := range data {
		acc, bits = acc<<8|uint(c), bits+8
		for bits >= 5 {
			bits -= 5
			out = append(out, byte(acc>>bits)&31)
		}
	}
	if bits > 0 {
		out = append(out, byte(acc<<(5-bits))&31)
	}
	return out
}

// checksumSize is the length of the checksum in groups.
const checksumSize = 6

// checksum returns the six groups that make the polynomial of prefix, groups
// and themselves equal to 1.
func checksum(hrp string, groups []byte) []byte {
	values := make([]byte, 0, 2*len(hrp)+1+len(groups)+checksumSize)
	defer func() { clear(values) }()
	for _, c := range []byte(hrp) {
		values = append(values, c>>5)
	}
	values = append(values, 0)
	for _, c := range []byte(hrp) {
		values = append(values, c&31)
	}
	values = append(append(values, groups...), make([]byte, checksumSize)...)
	mod := polymod(values) ^ 1
	out := make([]byte, checksumSize)
	for i := range out {
		out[i] = byte(mod>>(5*(5-i))) & 31
	}
	return out
}

func polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	sum := uint32(1)
	for _, v := range values {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	return sum
}
