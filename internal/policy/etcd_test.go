package policy

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority is a CA of a test.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func issue(t *testing.T, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	change(template)
	a := &authority{template, key}
	if by == nil {
		by = a
	}
	der, err := x509.CreateCertificate(nil, template, by.cert, public, by.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A member is one by the measured CA and one of the measured names, whatever else is true.
func TestVerifyMember(t *testing.T) {
	root := func(c *x509.Certificate) { c.IsCA = true }
	member := func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"other.test", "etcd.test"}, []net.IP{net.IPv4(10, 0, 0, 9)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	but := func(change func(*x509.Certificate)) func(*x509.Certificate) {
		return func(c *x509.Certificate) { member(c); change(c) }
	}
	ca, other := issue(t, nil, root), issue(t, nil, root)
	between := issue(t, ca, root)
	e := &Etcd{CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})), ServerNames: []string{"10.0.0.1", "etcd.test"}, ClusterID: "00000000000000ff"}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		ok    bool
	}{
		"a member":                {[]*x509.Certificate{issue(t, ca, member).cert}, true},
		"by its address":          {[]*x509.Certificate{issue(t, ca, but(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(10, 0, 0, 1)} })).cert}, true},
		"below another one":       {[]*x509.Certificate{issue(t, between, member).cert, between.cert}, true},
		"without the one between": {[]*x509.Certificate{issue(t, between, member).cert}, false},
		"of another CA":           {[]*x509.Certificate{issue(t, other, member).cert}, false},
		"that brings its own CA":  {[]*x509.Certificate{issue(t, other, member).cert, other.cert}, false},
		"with another name":       {[]*x509.Certificate{issue(t, ca, but(func(c *x509.Certificate) { c.DNSNames = []string{"etcd.test.evil"} })).cert}, false},
		"with a common name":      {[]*x509.Certificate{issue(t, ca, but(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "etcd.test" })).cert}, false},
		"that has ended":          {[]*x509.Certificate{issue(t, ca, but(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })).cert}, false},
		"of a client":             {[]*x509.Certificate{issue(t, ca, but(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })).cert}, false},
		"without a certificate":   {nil, false},
	} {
		if err := e.Verify(c.chain); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if id := e.Cluster(); fmt.Sprintf("%x", id) != e.ClusterID || !e.Named() || (&Etcd{}).Named() {
		t.Errorf("the cluster %x", id)
	}
}
