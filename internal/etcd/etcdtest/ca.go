package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA signs the certificates of a cluster and of its clients.
type CA struct {
	File string // PEM

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int
}

// Files are what a client or a member shows, and by what it knows the other end. All PEM.
type Files struct {
	CA, Certificate, Key string
}

// Config returns what crypto/tls needs of the files, for TLS 1.3.
func (f Files) Config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", f.CA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, MinVersion: tls.VersionTLS13}, nil
}

// NewCA makes one that no cluster knows.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca, err := newCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newCA(dir string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &CA{File: filepath.Join(dir, "ca.pem"), dir: dir, key: key}
	ca.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcdtest"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(2, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, ca.cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return ca, os.WriteFile(ca.File, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// Client makes the certificate of a client; etcd takes its common name for a user's.
// Changes to the template are made before it is signed.
func (ca *CA) Client(t testing.TB, name string, changes ...func(*x509.Certificate)) Files {
	t.Helper()
	files, err := ca.issue(clientTemplate(name), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Certify makes the certificate that a request, PEM, asks for, of a client whose key stays
// where it is.
func (ca *CA) Certify(t testing.TB, request []byte) []byte {
	t.Helper()
	block, rest := pem.Decode(request)
	if block == nil || len(rest) > 0 {
		t.Fatalf("%q is not a certificate request", request)
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.sign(clientTemplate(r.Subject.CommonName), r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func clientTemplate(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

// Expired makes a certificate one that ended an hour ago.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }

// Early makes a certificate one that begins in a day.
func Early(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, 2)
}

// server makes a certificate of a member, by which it is a client of the others, too. It
// has no common name: etcd would take that for a user's. It is valid for a year.
func (ca *CA) server(hosts []string, changes ...func(*x509.Certificate)) (Files, error) {
	template := &x509.Certificate{DNSNames: []string{"localhost", "etcd.test"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, host := range hosts {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(host))
	}
	year := func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(1, 0, 0) }
	return ca.issue(template, append([]func(*x509.Certificate){year}, changes...)...)
}

func (ca *CA) issue(template *x509.Certificate, changes ...func(*x509.Certificate)) (Files, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Files{}, err
	}
	ca.made++
	certificate, err := ca.sign(template, key.Public(), changes...)
	if err != nil {
		return Files{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Files{}, err
	}
	name := filepath.Join(ca.dir, fmt.Sprintf("%s-%d", template.Subject.CommonName, ca.made))
	files := Files{CA: ca.File, Certificate: name + ".pem", Key: name + ".key"}
	return files, errors.Join(os.WriteFile(files.Certificate, certificate, 0o644),
		os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// sign makes a certificate of a key, PEM.
func (ca *CA) sign(template *x509.Certificate, key any, changes ...func(*x509.Certificate)) ([]byte, error) {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key, ca.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}
