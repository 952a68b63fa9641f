package sgx

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
)

// intelRoot is "Intel SGX Root CA", until 2049-12-31, for SGX and TDX, as Intel publishes
// it: https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.pem
//
//go:embed intel-root.pem
var intelRoot []byte

// intelFingerprint is the SHA-256 of the root's DER.
const intelFingerprint = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"

// Anchor is the root certificate that all chains have to end in. The zero Anchor is Intel's.
type Anchor struct{ der []byte }

// ParseAnchor returns the anchor with the one certificate in the PEM text.
func ParseAnchor(text []byte) (Anchor, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != certificateBlock || len(bytes.TrimSpace(rest)) > 0 {
		return Anchor{}, errors.New("a root has to be one certificate in PEM")
	}
	if _, err := parseP256(block.Bytes); err != nil {
		return Anchor{}, fmt.Errorf("cannot use the root: %w", err)
	}
	return Anchor{der: block.Bytes}, nil
}

// certificate returns the root. Only a build with another file than the one whose
// fingerprint is above can fail.
func (a Anchor) certificate() (*x509.Certificate, error) {
	if a.der == nil {
		block, _ := pem.Decode(intelRoot)
		if block == nil || fingerprint(block.Bytes) != intelFingerprint {
			return nil, errors.New("the root in this program is not the one of Intel")
		}
		a.der = block.Bytes
	}
	return parseP256(a.der)
}

// IsIntel reports whether a is the root of Intel.
func (a Anchor) IsIntel() bool { return a.Fingerprint() == intelFingerprint }

// Fingerprint returns the SHA-256 of the certificate in lower-case hex.
func (a Anchor) Fingerprint() string {
	if a.der == nil {
		return intelFingerprint
	}
	return fingerprint(a.der)
}
