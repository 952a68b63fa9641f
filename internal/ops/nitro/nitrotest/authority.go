// Package nitrotest holds what tests of Nitro Enclaves have in place of AWS: an authority
// and a security module below it, and images as `nitro build` lays them out. No program
// links it.
package nitrotest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"time"

	"github.com/fxamacker/cbor/v2"

	"privyseal/internal/eif"
	"privyseal/internal/nitro"
)

// NewAuthority makes a certificate and its key: PATH.pem and PATH.key.
func NewAuthority(path, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	template := certificateOf(name, true)
	template.DNSNames = []string{name}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(path+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

func certificateOf(name string, authority bool) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(3 * time.Hour),
		SignatureAlgorithm: x509.ECDSAWithSHA384, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if authority {
		c.IsCA = true
		c.KeyUsage |= x509.KeyUsageCertSign
	}
	return c
}

// Module is a security module whose documents are good below a test root.
type Module struct {
	pcrs   map[uint64][]byte
	leaf   []byte
	bundle [][]byte
	key    *ecdsa.PrivateKey
}

func NewModule(root string, m eif.Measurements) (*Module, error) {
	authority, err := tls.LoadX509KeyPair(root+".pem", root+".key")
	if err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(authority.Certificate[0])
	if err != nil {
		return nil, err
	}
	t := &Module{bundle: [][]byte{issuer.Raw}, pcrs: map[uint64][]byte{}}
	if t.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return nil, err
	}
	if t.leaf, err = x509.CreateCertificate(rand.Reader, certificateOf("module", false), issuer, &t.key.PublicKey, authority.PrivateKey); err != nil {
		return nil, err
	}
	role, instance := nitro.ParentPCR("arn:aws:iam::111122223333:role/validator"), nitro.ParentPCR("i-0123456789abcdef0")
	t.pcrs = map[uint64][]byte{0: m.PCR0[:], 1: m.PCR1[:], 2: m.PCR2[:], 3: role[:], 4: instance[:], 8: m.PCR8[:]}
	return t, nil
}

// Attest implements enclave.Attester.
func (m *Module) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	payload, err := cbor.Marshal(map[string]any{
		"module_id": "i-0123456789abcdef0-enc0", "digest": "SHA384", "timestamp": uint64(time.Now().UnixMilli()), "pcrs": m.pcrs,
		"certificate": m.leaf, "cabundle": m.bundle, "public_key": publicKey, "user_data": userData, "nonce": nonce,
	})
	if err != nil {
		return nil, err
	}
	protected := []byte("\xa1\x01\x38\x22")
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, m.key, sum[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	return cbor.Marshal([]any{protected, map[int]int{}, payload, signature})
}
