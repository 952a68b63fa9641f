// Package document is the attestation document of an SGX enclave of ours: a quote, and what
// the enclave says beside it. A quote has room for 64 bytes of the enclave's choice, so these
// are a hash, [ReportData], and what it is the hash of goes along.
//
// The enclave encodes, who verifies decodes; neither trusts the other, and the quote means
// nothing here: package sgx verifies it. This package is linked into the measured program,
// and so has nothing but the encoding.
package document

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Magic is what a document begins with.
const Magic = "privyseal sgx document 1\n"

// domain is the first thing that is hashed into a quote. It has no line feed.
const domain = "privyseal sgx document 1"

// Limits in bytes of the parts of a document.
const (
	maxQuote     = 16 << 10
	maxUserData  = 4 << 10
	maxNonce     = 1 << 10
	maxPublicKey = 4 << 10
	// MaxSize is that of a whole one.
	MaxSize = len(Magic) + 4*4 + maxQuote + maxUserData + maxNonce + maxPublicKey
)

// Document is a quote and what was hashed into it. What is empty is not there.
type Document struct {
	Quote     []byte
	UserData  []byte // of package claims
	Nonce     []byte // the asker's
	PublicKey []byte // of the enclave's own, for somebody to encrypt to
}

var limits = [...]int{maxQuote, maxUserData, maxNonce, maxPublicKey}

func (d *Document) parts() [len(limits)]*[]byte {
	return [...]*[]byte{&d.Quote, &d.UserData, &d.Nonce, &d.PublicKey}
}

// ReportData returns what an enclave has quoted, for a document with these parts: the SHA-512
// of [domain], and of each part after its length of 4 bytes in big endian.
func ReportData(userData, nonce, publicKey []byte) [64]byte {
	h := sha512.New()
	h.Write([]byte(domain))
	for _, part := range [][]byte{userData, nonce, publicKey} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return [64]byte(h.Sum(nil))
}

// Encode returns the document: [Magic], and each part in the order of the fields after its
// length of 4 bytes in big endian.
func (d Document) Encode() ([]byte, error) {
	b := []byte(Magic)
	for i, part := range d.parts() {
		if len(*part) > limits[i] {
			return nil, fmt.Errorf("cannot attest: part %d of the document has %d bytes, more than %d", i+1, len(*part), limits[i])
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(*part))), *part...)
	}
	return b, nil
}

// Raw returns the bytes of a document, or of a bare quote, in what a file holds: as they are,
// or in base64 as terminals have it. Of anything else it returns nil.
func Raw(data []byte) []byte {
	if begins(data) {
		return data
	}
	raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(data), nil)))
	if err != nil || !begins(raw) {
		return nil
	}
	return raw
}

// begins reports whether something begins as a document, or as a quote in the versions from
// 3 to 5 with ECDSA on P-256.
func begins(b []byte) bool {
	return bytes.HasPrefix(b, []byte(Magic)) || len(b) > 4 && b[0] >= 3 && b[0] <= 5 && b[1] == 0 && b[2] == 2 && b[3] == 0
}

// Decode reads a document. What it accepts encodes to the same bytes.
func Decode(raw []byte) (Document, error) {
	var d Document
	rest, ours := bytes.CutPrefix(raw, []byte(Magic))
	if !ours {
		return d, errors.New("not a document of privyseal's SGX enclave: it begins otherwise")
	}
	for i, part := range d.parts() {
		if len(rest) < 4 {
			return Document{}, errors.New("the document ends too early")
		}
		n := binary.BigEndian.Uint32(rest)
		if rest = rest[4:]; uint64(n) > uint64(min(len(rest), limits[i])) {
			return Document{}, fmt.Errorf("part %d of the document has a length of %d bytes, which it has not or may not have", i+1, n)
		}
		if n > 0 {
			*part, rest = rest[:n:n], rest[n:]
		}
	}
	if len(rest) > 0 {
		return Document{}, errors.New("something follows the document's end")
	}
	return d, nil
}
