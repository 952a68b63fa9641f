package etcd

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"privyseal/internal/cure"
	"privyseal/internal/etcd"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
)

// maxPEM is far above what a file of certificates has, in bytes.
const maxPEM = 1 << 20

// tls returns what identifies us and the members, read at each connection: who renews a
// certificate only writes the file. A cluster with http:// has none.
func (c *cluster) tls() (*tls.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	own, err := c.own()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{own}}, nil
}

func (c *cluster) roots() (*x509.CertPool, error) {
	text, _, err := regular.ReadOurs(c.CAFile, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("the CA file %s holds no PEM certificate", c.CAFile)
	}
	return roots, nil
}

// own returns our certificate with its key. Between the two writes of who renews them they
// do not fit: the next connection reads them again.
func (c *cluster) own() (tls.Certificate, error) {
	certificate, _, err := regular.ReadOurs(c.CertificateFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot read our certificate: %w", err)
	}
	secret, err := regular.ReadSecret("key file", c.KeyFile, provider.Credentials(), maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(secret)
	pair, err := tls.X509KeyPair(certificate, secret)
	if err != nil {
		return pair, cure.Add(fmt.Errorf("%s and %s are not a certificate and its key: %w", c.CertificateFile, c.KeyFile, err), "look at both with %s", cure.Command("openssl", "x509", "-noout", "-text", "-in", c.CertificateFile))
	}
	return pair, nil
}

// elsewhere reports whether the key is one that only others can open.
func (c *cluster) elsewhere() bool {
	text, _, err := regular.ReadOurs(c.KeyFile, maxPEM)
	return err == nil && len(text) > 0 && !bytes.Contains(text, []byte("-----BEGIN"))
}

func (c *cluster) dialer() etcd.Dialer {
	if c.plain() {
		return etcd.Dialer{}
	}
	return etcd.Dialer{TLS: c.tls}
}
