package yubico

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// maxCertificate bounds in bytes what is read as one. Those of devices have 1 KiB.
const maxCertificate = 4 << 10

// certificate is one that a device has made for a key. crypto/x509 does not read one of a key on
// secp256k1.
type certificate struct {
	signed, signature   []byte
	issuer              []byte // DER
	notBefore, notAfter time.Time
	key                 subjectKey
	extensions          []pkix.Extension
}

type subjectKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Public    asn1.BitString
}

// envelope is a certificate of X.509 (RFC 5280, 4.1).
type envelope struct {
	Signed    asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type toBeSigned struct {
	Version   int `asn1:"explicit,tag:0"`
	Serial    *big.Int
	Algorithm pkix.AlgorithmIdentifier
	Issuer    asn1.RawValue
	Validity  struct{ NotBefore, NotAfter time.Time }
	Subject   asn1.RawValue
	Key       subjectKey
	// Extensions are there in version 3, which is the one that has them.
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

// read decodes DER. Unlike encoding/asn1 it refuses what is not written in the one way that
// DER has.
func read[T any](der []byte, params string) (value T, err error) {
	if rest, err := asn1.UnmarshalWithParams(der, &value, params); err != nil || len(rest) > 0 {
		return value, errors.New("it is not DER")
	}
	if again, err := asn1.MarshalWithParams(value, params); err != nil || !bytes.Equal(again, der) {
		return value, errors.New("it is not the DER that is expected")
	}
	return value, nil
}

// parseKey reads the certificate of a key.
func parseKey(der []byte) (*certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("a certificate of %d bytes is too large", len(der))
	}
	outer, err := read[envelope](der, "")
	if err != nil {
		return nil, fmt.Errorf("the certificate of the key is malformed: %w", err)
	}
	inner, err := read[toBeSigned](outer.Signed.FullBytes, "")
	switch {
	case err != nil:
		return nil, fmt.Errorf("the certificate of the key is malformed: %w", err)
	case inner.Version != 2:
		return nil, errors.New("the certificate of the key is not of version 3")
	case !inner.Algorithm.Algorithm.Equal(outer.Algorithm.Algorithm) || !bytes.Equal(inner.Algorithm.Parameters.FullBytes, outer.Algorithm.Parameters.FullBytes):
		return nil, errors.New("the certificate of the key names two algorithms for its signature")
	case outer.Signature.BitLength%8 != 0:
		return nil, errors.New("the signature on the certificate of the key is not of whole bytes")
	}
	return &certificate{outer.Signed.FullBytes, outer.Signature.Bytes, inner.Issuer.FullBytes,
		inner.Validity.NotBefore, inner.Validity.NotAfter, inner.Key, inner.Extensions}, nil
}
