package sgx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// maxCertificate bounds in bytes what is read as one. Those of platforms have 1.2 KiB.
const maxCertificate = 4 << 10

const certificateBlock = "CERTIFICATE"

// parseP256 parses a certificate with a P-256 key, the only curve in this PKI.
func parseP256(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("a certificate of %d bytes is too large", len(der))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("a certificate is malformed: %w", err)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key of %q is not on P-256", c.Subject.CommonName)
	}
	return c, nil
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
