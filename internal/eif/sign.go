package eif

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // for ES256
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// Signer signs images.
type Signer struct {
	key  *ecdsa.PrivateKey
	cert []byte // PEM, as it is in the image
}

// NewSigner returns a signer with the private key and the certificate in two PEM
// texts. The key is on P-384, in PKCS #8 or SEC 1, not encrypted, and belongs to
// the certificate. The certificate's text goes into the image as it is.
func NewSigner(keyPEM, certPEM []byte) (*Signer, error) {
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use the signing key: %w", err)
	}
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot use the signing certificate: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the signing certificate belongs to another key")
	}
	return &Signer{key: key, cert: bytes.Clone(certPEM)}, nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes them before the key
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("it is not in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("it is a %q, not an unencrypted private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("it is malformed") // the cause could quote it
	}
	if k, ok := key.(*ecdsa.PrivateKey); ok && k.Curve == elliptic.P384() {
		return k, nil
	}
	return nil, errors.New("it is not on the curve P-384 (secp384r1)")
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// algorithms are what nitro-cli signs with: COSE's number and the hash, by
// curve. We sign with ES384.
var algorithms = map[elliptic.Curve]struct {
	header string // {1: number}, encoded
	hash   crypto.Hash
	size   int // of r, and of s
}{
	elliptic.P256(): {"\xa1\x01\x26", crypto.SHA256, 32},
	elliptic.P384(): {"\xa1\x01\x38\x22", crypto.SHA384, 48},
	elliptic.P521(): {"\xa1\x01\x38\x23", crypto.SHA512, 66},
}

// sign returns the signature section of an image with this PCR0. The nonce is
// that of RFC 6979, so that the same image gets the same bytes.
func (s *Signer) sign(pcr0 PCR) ([]byte, error) {
	header := algorithms[elliptic.P384()].header
	payload := encodeRegister(pcr0)
	signed, err := sigStructure(header, payload)
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum384(signed)
	der, err := s.key.Sign(nil, sum[:], crypto.SHA384)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, err
	}
	signature := make([]byte, 96)
	rs.R.FillBytes(signature[:48])
	rs.S.FillBytes(signature[48:])
	cose, err := cbor.Marshal(sign1{Protected: []byte(header), Unprotected: []byte{0xa0}, Payload: payload, Signature: signature})
	if err != nil {
		return nil, err
	}
	return encodeSection(s.cert, cose), nil
}

// sign1 is COSE_Sign1 (RFC 9052, 4.2), untagged.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

func sigStructure(header string, payload []byte) ([]byte, error) {
	return cbor.Marshal([]any{"Signature1", []byte(header), []byte{}, payload})
}

// encodeRegister returns what is signed: {"register_index": 0, "register_value":
// […]}.
func encodeRegister(pcr0 PCR) []byte {
	b := append([]byte{0xa2}, text("register_index")...)
	b = append(b, 0)
	b = append(b, text("register_value")...)
	return append(b, numbers(pcr0[:])...)
}

// encodeSection returns the section: an array of one signature.
func encodeSection(cert, cose []byte) []byte {
	b := append([]byte{0x81, 0xa2}, text("signing_certificate")...)
	b = append(b, numbers(cert)...)
	b = append(b, text("signature")...)
	return append(b, numbers(cose)...)
}

// text returns a CBOR text of under 24 bytes.
func text(s string) []byte { return append([]byte{0x60 | byte(len(s))}, s...) }

// numbers returns bytes as a CBOR array of integers, which is how serde encodes
// a Vec<u8>.
func numbers(b []byte) []byte {
	list := make([]uint64, len(b))
	for i, x := range b {
		list[i] = uint64(x)
	}
	out, err := cbor.Marshal(list)
	if err != nil {
		panic(err) // a list of integers has an encoding
	}
	return out
}

// checkSignature checks the signature section against the rest of the image.
func (im *Image) checkSignature(raw []byte) (*SignedBy, error) {
	cert, cose, err := decodeSection(raw)
	if err != nil {
		return nil, err
	}
	c, err := parseCertificate(cert)
	if err != nil {
		return nil, fmt.Errorf("cannot read its certificate: %w", err)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("its certificate has no ECDSA key")
	}
	algorithm, ok := algorithms[key.Curve]
	if !ok {
		return nil, errors.New("its certificate has a key on an unknown curve")
	}
	var s sign1
	if err := cbor.Unmarshal(cose, &s); err != nil {
		return nil, fmt.Errorf("not a COSE_Sign1: %w", err)
	}
	if again, err := cbor.Marshal(s); err != nil || !bytes.Equal(again, cose) {
		return nil, errors.New("its COSE_Sign1 is not in the shortest encoding")
	}
	if string(s.Protected) != algorithm.header || string(s.Unprotected) != "\xa0" || len(s.Signature) != 2*algorithm.size {
		return nil, errors.New("its algorithm is not the one of its certificate")
	}
	if !bytes.Equal(s.Payload, encodeRegister(im.Measure().PCR0)) {
		return nil, errors.New("it is for another image")
	}
	signed, err := sigStructure(algorithm.header, s.Payload)
	if err != nil {
		return nil, err
	}
	h := algorithm.hash.New()
	h.Write(signed)
	r := new(big.Int).SetBytes(s.Signature[:algorithm.size])
	if !ecdsa.Verify(key, h.Sum(nil), r, new(big.Int).SetBytes(s.Signature[algorithm.size:])) {
		return nil, errors.New("the key of its certificate did not make it")
	}
	return &SignedBy{Certificate: c}, nil
}

// decodeSection reads a signature section, which encodeSection must have been
// able to write.
func decodeSection(raw []byte) (cert, cose []byte, err error) {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxSignature,
	}.DecMode()
	if err != nil {
		return nil, nil, err
	}
	var list []struct {
		Certificate []uint8 `cbor:"signing_certificate"`
		Signature   []uint8 `cbor:"signature"`
	}
	if err := mode.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("it is malformed: %w", err)
	}
	if len(list) != 1 {
		return nil, nil, fmt.Errorf("there are %d signatures, not one", len(list))
	}
	if !bytes.Equal(encodeSection(list[0].Certificate, list[0].Signature), raw) {
		return nil, nil, errors.New("it is malformed: not in the shortest encoding")
	}
	return list[0].Certificate, list[0].Signature, nil
}
