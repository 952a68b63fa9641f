package hostile

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
	"path/filepath"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"privyseal/test/nitro/rig"
)

// module is a security module: it signs attestation documents of one image, below
// the root of the rig.
type module struct {
	key    *ecdsa.PrivateKey
	leaf   []byte
	bundle [][]byte
	pcrs   map[int][]byte
}

func newModule(t *testing.T, root *rig.Root) *module {
	t.Helper()
	dir := t.TempDir()
	if err := root.Save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	certBlock, rest := pem.Decode(text)
	keyBlock, _ := pem.Decode(rest)
	parent, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	parentKey, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "i-1-enc1.test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(3 * time.Hour),
		SignatureAlgorithm: x509.ECDSAWithSHA384, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	m := &module{key: key, leaf: leaf, bundle: [][]byte{parent.Raw}, pcrs: map[int][]byte{}}
	for i := range 16 {
		m.pcrs[i] = make([]byte, 48)
		m.pcrs[i][0] = byte(i + 7)
	}
	return m
}

// Attest implements the enclave's Module.
func (m *module) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	for _, field := range [][]byte{userData, nonce, publicKey} {
		if len(field) > 1024 {
			return nil, errors.New("the NSM refuses: InputTooLarge")
		}
	}
	payload, err := cbor.Marshal(struct {
		ModuleID    string         `cbor:"module_id"`
		Digest      string         `cbor:"digest"`
		Timestamp   uint64         `cbor:"timestamp"`
		PCRs        map[int][]byte `cbor:"pcrs"`
		Certificate []byte         `cbor:"certificate"`
		Bundle      [][]byte       `cbor:"cabundle"`
		PublicKey   []byte         `cbor:"public_key"`
		UserData    []byte         `cbor:"user_data"`
		Nonce       []byte         `cbor:"nonce"`
	}{"i-1-enc1", "SHA384", uint64(time.Now().UnixMilli()), m.pcrs, m.leaf, m.bundle, publicKey, userData, nonce})
	if err != nil {
		return nil, err
	}
	protected, err := cbor.Marshal(map[int]int{1: -35}) // ES384
	if err != nil {
		return nil, err
	}
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, m.key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	return cbor.Marshal([]any{protected, map[int]int{}, payload, signature})
}

// Random implements the enclave's Module.
func (m *module) Random(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := rand.Read(b)
	return b, err
}

// certificate returns one for KMS that is its own authority, also as PEM.
func certificate(t *testing.T) (cert tls.Certificate, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{serverName},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(text)
}
