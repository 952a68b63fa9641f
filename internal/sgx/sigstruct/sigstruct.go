// Package sigstruct reads the signature of an SGX enclave (SIGSTRUCT), as gramine-sgx-sign
// writes it beside an enclave: what the processor compares with the enclave that it starts,
// and so what quotes of that enclave will say.
//
// It proves that the holder of the key in there signed these measurements, as the processor
// checks it. Whose key that is, and whether the enclave on some disk has the measurement,
// it does not say. Layout: Intel's Software Developer's Manual, volume 3D, SIGSTRUCT.
package sigstruct

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Size is that of a SIGSTRUCT in bytes.
const Size = 1808

// Signature is what a SIGSTRUCT says.
type Signature struct {
	MRENCLAVE  [32]byte
	MRSIGNER   [32]byte // SHA-256 of the modulus, little endian
	ProductID  uint16
	SVN        uint16
	Attributes [16]byte // flags and XFRM, 8 bytes each, little endian
	Mask       [16]byte // of Attributes: what the processor compares
	MiscSelect uint32
	MiscMask   uint32
	Date       time.Time // a day, by the signer's word; zero where he names none, so that the file is the same again
}

// debug is the bit of Attributes of an enclave whose memory the host can read.
const debug = 2

// MayDebug reports whether the processor starts the enclave in debug mode: it is signed for
// that, or the signature leaves it to the host.
func (s *Signature) MayDebug() bool { return s.Attributes[0]&debug != 0 || s.Mask[0]&debug == 0 }

// The constant parts.
var (
	header  = []byte{6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}
	header2 = []byte{1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0}
)

// Offsets of the fields.
const (
	atVendor    = 16
	atDate      = 20
	atHeader2   = 24
	atReserved  = 44
	atModulus   = 128
	atExponent  = 512
	atSignature = 516
	atMisc      = 900 // and what else is signed, to 1028
	atAttribute = 928
	atMask      = 944
	atMeasured  = 960
	atProduct   = 1024
	atReserved2 = 1028
	atQ1        = 1040
	atQ2        = 1424
	keySize     = 384
	intel       = 0x8086
)

var le = binary.LittleEndian

// Parse reads a SIGSTRUCT and checks its signature, RSA-3072 with the exponent 3, with the
// two quotients that the processor takes along.
func Parse(raw []byte) (*Signature, error) {
	if len(raw) != Size {
		return nil, fmt.Errorf("a SIGSTRUCT has %d bytes, and this has %d", Size, len(raw))
	}
	vendor := le.Uint32(raw[atVendor:])
	switch {
	case !bytes.Equal(raw[:atVendor], header) || !bytes.Equal(raw[atHeader2:atHeader2+len(header2)], header2) || vendor != 0 && vendor != intel:
		return nil, errors.New("this is not a SIGSTRUCT: it begins otherwise")
	case !zero(raw[atReserved:atModulus]) || !zero(raw[atReserved2:atQ1]):
		return nil, errors.New("something is where a SIGSTRUCT has zeros")
	case le.Uint32(raw[atExponent:]) != 3:
		return nil, fmt.Errorf("its public exponent is %d, not 3", le.Uint32(raw[atExponent:]))
	}
	s := &Signature{
		MRSIGNER: sha256.Sum256(raw[atModulus:atExponent]), ProductID: le.Uint16(raw[atProduct:]), SVN: le.Uint16(raw[atProduct+2:]),
		MRENCLAVE: [32]byte(raw[atMeasured:]), Attributes: [16]byte(raw[atAttribute:]), Mask: [16]byte(raw[atMask:]),
		MiscSelect: le.Uint32(raw[atMisc:]), MiscMask: le.Uint32(raw[atMisc+4:]),
	}
	var err error
	if s.Date, err = day(le.Uint32(raw[atDate:])); err != nil {
		return nil, err
	}
	if err := check(raw); err != nil {
		return nil, err
	}
	return s, nil
}

// day reads a date, whose decimal digits are the hexadecimal ones of its number.
func day(n uint32) (time.Time, error) {
	if n == 0 {
		return time.Time{}, nil
	}
	d, err := time.Parse("20060102", fmt.Sprintf("%08x", n))
	if err != nil {
		err = fmt.Errorf("its date is %08x, not a day", n)
	}
	return d, err
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// number reads a number of the size of the key, little endian.
func number(raw []byte, at int) *big.Int {
	b := bytes.Clone(raw[at : at+keySize])
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// check checks signature and quotients.
func check(raw []byte) error {
	n, s := number(raw, atModulus), number(raw, atSignature)
	if n.BitLen() != 8*keySize || n.Bit(0) == 0 || s.Cmp(n) >= 0 {
		return errors.New("it is not an RSA-3072 signature")
	}
	h := sha256.New()
	h.Write(raw[:atModulus])
	h.Write(raw[atMisc:atReserved2])
	if rsa.VerifyPKCS1v15(&rsa.PublicKey{N: n, E: 3}, crypto.SHA256, h.Sum(nil), s.FillBytes(make([]byte, keySize))) != nil {
		return errors.New("its signature is wrong")
	}
	q1, rest := new(big.Int).DivMod(new(big.Int).Mul(s, s), n, new(big.Int))
	q2 := new(big.Int).Div(rest.Mul(rest, s), n)
	if q1.Cmp(number(raw, atQ1)) != 0 || q2.Cmp(number(raw, atQ2)) != 0 {
		return errors.New("its signature is good, but the quotients beside it (Q1, Q2) are not: no processor starts such an enclave")
	}
	return nil
}
