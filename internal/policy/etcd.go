package policy

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Named reports whether the policy has the marks in etcd.
func (e *Etcd) Named() bool { return e.CA != "" }

// Roots returns the pool of CA.
func (e *Etcd) Roots() *x509.CertPool { return pool(e.CA) }

// Cluster returns the bytes of ClusterID.
func (e *Etcd) Cluster() (id [8]byte) {
	hex.Decode(id[:], []byte(e.ClusterID)) // check has decoded it
	return id
}

// Verify says why a member's certificate, with those that came with it, is not one of
// the cluster; nil if it is.
func (e *Etcd) Verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the member of etcd has no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: e.Roots(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("the certificate of the member of etcd is not of the measured CA: %w", err)
	}
	if !slices.ContainsFunc(e.ServerNames, func(name string) bool { return chain[0].VerifyHostname(name) == nil }) {
		return fmt.Errorf("the certificate of the member of etcd has none of the names in the policy, %s", strings.Join(e.ServerNames, ", "))
	}
	return nil
}
