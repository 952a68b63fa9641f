package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Root is a test root: it stands for AWS's, and signs what a security module of
// this rig is known by.
type Root struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewRoot makes one, valid for thirty years as AWS's is.
func NewRoot() (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := authority("test.nitro-enclaves", now.Add(-24*time.Hour), now.AddDate(30, 0, 0))
	template.MaxPathLen = -1
	cert, err := certify(template, template, key, key)
	if err != nil {
		return nil, err
	}
	return &Root{key, cert}, nil
}

// rootFile is the name of a saved root, with its key.
const rootFile = "root.pem"

// Save writes the root with its key to a folder, for another process of the test.
func (r *Root) Save(dir string) error {
	der, err := x509.MarshalECPrivateKey(r.key)
	if err != nil {
		return err
	}
	text := append(r.PEM(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
	return os.WriteFile(filepath.Join(dir, rootFile), text, 0o600)
}

// LoadRoot reads what Save wrote.
func LoadRoot(dir string) (*Root, error) {
	text, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, err
	}
	certBlock, rest := pem.Decode(text)
	keyBlock, _ := pem.Decode(rest)
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New(rootFile + " holds no root")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	return &Root{key, cert}, nil
}

// PEM returns the root's certificate, as a policy file takes it.
func (r *Root) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
}

// signer signs the documents of one security module.
type signer struct {
	key    *ecdsa.PrivateKey
	leaf   []byte   // DER
	bundle [][]byte // DER, the root first
}

// signerFor certifies a module: below the root an intermediate of a day, below
// that a leaf of three hours, as on AWS.
func (r *Root) signerFor(moduleID string, at time.Time) (*signer, error) {
	interKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	inter, err := certify(authority("instance.test.nitro-enclaves", at.Add(-time.Hour), at.Add(24*time.Hour)), r.cert, interKey, r.key)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate(moduleID+".test", at.Add(-time.Minute), at.Add(3*time.Hour))
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf, err := certify(template, inter, key, interKey)
	if err != nil {
		return nil, err
	}
	return &signer{key, leaf.Raw, [][]byte{r.cert.Raw, inter.Raw}}, nil
}

func certificate(name string, from, to time.Time) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the machine has no randomness
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Test"}, Country: []string{"US"}},
		NotBefore:    from, NotAfter: to,
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
		BasicConstraintsValid: true,
	}
}

func authority(name string, from, to time.Time) *x509.Certificate {
	c := certificate(name, from, to)
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return c
}

func certify(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, fmt.Errorf("cannot certify %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// sign returns the 96 bytes of ES384: r and s, big-endian.
func (s *signer) sign(message []byte) ([]byte, error) {
	digest := sha512.Sum384(message)
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 96)
	r.FillBytes(out[:48])
	v.FillBytes(out[48:])
	return out, nil
}
