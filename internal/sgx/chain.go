package sgx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// The names that Intel gives the subjects of its certificates. The root signs those of
// different purposes, so a certificate is good for the one that its name says.
const (
	nameProcessor = "Intel SGX PCK Processor CA"
	namePlatform  = "Intel SGX PCK Platform CA"
)

var (
	namesTCBSigning = []string{"Intel SGX TCB Signing"}
	namesPCK        = []string{"Intel SGX PCK Certificate"}
	namesPCKCA      = []string{nameProcessor, namePlatform}
)

// parsePEM reads exactly n certificates, of which each is in PEM as Go and OpenSSL write it.
func parsePEM(text []byte, n int) (list []*x509.Certificate, err error) {
	if len(text) > n*(maxCertificate*4/3+200) {
		return nil, fmt.Errorf("%d certificates have no %d bytes", n, len(text))
	}
	var again []byte
	for rest := text; len(list) < n; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("there are %d certificates in PEM, not %d", len(list), n)
		}
		c, err := parseP256(block.Bytes)
		if err != nil {
			return nil, err
		}
		list, again = append(list, c), append(again, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: block.Bytes})...)
	}
	if !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(text, []byte("\n"))) {
		return nil, errors.New("there is something else than certificates in PEM")
	}
	return list, nil
}

// Extensions that we understand, and so may be critical: key usage, basic constraints.
var known = []asn1.ObjectIdentifier{{2, 5, 29, 15}, {2, 5, 29, 19}}

// checkPath applies RFC 5280 to a path that ends in the anchor: each certificate is signed by
// the next, which may sign certificates at that distance. The names say what the first may be
// called, and what the ones after it; CAs are below the first if it is one. The errors are
// [errChain].
func checkPath(path []*x509.Certificate, anchor *x509.Certificate, ca bool, names ...[]string) error {
	last, below := len(path)-1, 0
	if ca {
		below = 1
	}
	if !path[last].Equal(anchor) {
		return fmt.Errorf("%w: the last certificate is not the root %s", errChain, fingerprint(anchor.Raw))
	}
	for i, c := range path {
		if i < last && !slices.Contains(names[i], c.Subject.CommonName) {
			return fmt.Errorf("%w: the certificate of %q may not be used for this", errChain, c.Subject.CommonName)
		}
		if err := checkCertificate(c, path[min(i+1, last)], below+i); err != nil {
			return fmt.Errorf("%w: %w", errChain, err)
		}
	}
	return nil
}

// checkCertificate checks c, which has that many certificates below it.
func checkCertificate(c, issuer *x509.Certificate, above int) error {
	name := c.Subject.CommonName
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("%q was not issued by %q", name, issuer.Subject.CommonName)
	}
	if c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return fmt.Errorf("%q is signed with %s", name, c.SignatureAlgorithm)
	}
	for _, e := range c.Extensions {
		if e.Critical && !e.Id.Equal(known[0]) && !e.Id.Equal(known[1]) {
			return fmt.Errorf("%q has the unknown critical extension %s", name, e.Id)
		}
	}
	limited := c.MaxPathLen > 0 || c.MaxPathLenZero
	switch {
	case above == 0 && c.BasicConstraintsValid && c.IsCA:
		return fmt.Errorf("%q signs, but is a CA", name)
	case above == 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%q may not sign", name)
	case above > 0 && (!c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0):
		return fmt.Errorf("%q may not sign certificates", name)
	case above > 0 && limited && above-1 > c.MaxPathLen:
		return fmt.Errorf("%q may have %d CAs below it, and has %d", name, c.MaxPathLen, above-1)
	}
	if c == issuer {
		return nil // the anchor is trusted by its bytes
	}
	if err := c.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the signature on %q is wrong: %w", name, err)
	}
	return nil
}

// checkSignature checks r and s, 32 bytes each, over the SHA-256 sum. With every (r, s) an
// (r, -s) is good too.
func checkSignature(key *ecdsa.PublicKey, sum [32]byte, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key, sum[:], r, s)
}

// Span is when a piece of collateral is good: from From on, and before Until.
type Span struct {
	What        string // "the TCB info", …
	From, Until time.Time
}

// check returns an [ErrTime] if at is not in the span.
func (s Span) check(at time.Time) error {
	if at.Before(s.From) || !at.Before(s.Until) {
		return fmt.Errorf("%s: %w: it is from %s until %s, and this is %s", s.What, ErrTime,
			s.From.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	return nil
}

// spans returns those of certificates.
func spans(path []*x509.Certificate) (list []Span) {
	for _, c := range path {
		list = append(list, Span{fmt.Sprintf("the certificate of %q", c.Subject.CommonName), c.NotBefore, c.NotAfter})
	}
	return list
}

// crl is a list of certificates that one issuer has revoked.
type crl struct {
	issuer  []byte // the name, in DER
	revoked map[string]bool
}

// parseCRL reads the list of issuer, which has signed it.
func parseCRL(der []byte, issuer *x509.Certificate) (crl, Span, error) {
	name := issuer.Subject.CommonName
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return crl{}, Span{}, fmt.Errorf("the revocation list of %q is malformed: %w", name, err)
	}
	for _, e := range list.Extensions {
		if e.Critical {
			return crl{}, Span{}, fmt.Errorf("the revocation list of %q has the unknown critical extension %s", name, e.Id)
		}
	}
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || issuer.KeyUsage&x509.KeyUsageCRLSign == 0 || list.SignatureAlgorithm != x509.ECDSAWithSHA256 || list.CheckSignatureFrom(issuer) != nil {
		return crl{}, Span{}, fmt.Errorf("%w: %q has not signed its revocation list", errSignature, name)
	}
	c := crl{issuer.RawSubject, map[string]bool{}}
	for _, e := range list.RevokedCertificateEntries {
		c.revoked[e.SerialNumber.String()] = true
	}
	return c, Span{fmt.Sprintf("the revocation list of %q", name), list.ThisUpdate, list.NextUpdate}, nil
}

// checkRevocation looks each certificate up in the list of its issuer, which has to be
// there. The errors are [errRevoked] and [errForeign].
func checkRevocation(path []*x509.Certificate, lists []crl) error {
next:
	for _, c := range path {
		for _, l := range lists {
			if !bytes.Equal(l.issuer, c.RawIssuer) {
				continue
			}
			if l.revoked[c.SerialNumber.String()] {
				return fmt.Errorf("%w: that of %q, number %x", errRevoked, c.Subject.CommonName, c.SerialNumber)
			}
			continue next
		}
		return fmt.Errorf("%w: it has no revocation list of %q", errForeign, c.Issuer.CommonName)
	}
	return nil
}
