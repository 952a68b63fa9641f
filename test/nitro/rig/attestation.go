package rig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// attested is what KMS takes out of a document.
type attested struct {
	pcrs      map[int][]byte
	publicKey []byte // SPKI, DER
}

// documentLife is how old a document may be for KMS: five minutes.
const documentLife = 5 * time.Minute

// verifyDocument checks a document as KMS does, debug mode included: there it is
// the key policy that keeps zeros out.
func verifyDocument(raw []byte, root *Root, now time.Time) (*attested, error) {
	var outer []cbor.RawMessage
	var protected, payload, signature []byte
	if err := cbor.Unmarshal(raw, &outer); err != nil || len(outer) != 4 {
		return nil, errors.New("not a COSE_Sign1")
	}
	for i, to := range map[int]*[]byte{0: &protected, 2: &payload, 3: &signature} {
		if err := cbor.Unmarshal(outer[i], to); err != nil {
			return nil, fmt.Errorf("COSE_Sign1: %w", err)
		}
	}
	if !bytes.Equal(protected, encode(map[int]int{1: -35})) || len(signature) != 96 {
		return nil, errors.New("not signed by ES384")
	}
	var doc struct {
		Timestamp   uint64         `cbor:"timestamp"`
		PCRs        map[int][]byte `cbor:"pcrs"`
		Certificate []byte         `cbor:"certificate"`
		Bundle      [][]byte       `cbor:"cabundle"`
		PublicKey   []byte         `cbor:"public_key"`
	}
	if err := cbor.Unmarshal(payload, &doc); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	leaf, err := root.verifyChain(doc.Certificate, doc.Bundle, now)
	if err != nil {
		return nil, err
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the leaf's key is not on a curve")
	}
	hash := sha512.Sum384(encode([]any{"Signature1", protected, []byte{}, payload}))
	r, s := new(big.Int).SetBytes(signature[:48]), new(big.Int).SetBytes(signature[48:])
	if !ecdsa.Verify(key, hash[:], r, s) {
		return nil, errors.New("wrong signature")
	}
	made := time.UnixMilli(int64(doc.Timestamp))
	if age := now.Sub(made); age > documentLife || age < -documentLife {
		return nil, fmt.Errorf("the document is %v old", age)
	}
	return &attested{doc.PCRs, doc.PublicKey}, nil
}

func (r *Root) verifyChain(leafDER []byte, bundle [][]byte, now time.Time) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return nil, err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(r.cert)
	for _, der := range bundle {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return leaf, err
}
