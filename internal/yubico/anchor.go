// Package yubico verifies what a YubiHSM 2 attests about a key: that it was made in the
// device, say, and cannot be exported. It asks nobody; certificates are all that it takes.
//
// The device signs an X.509 certificate over the key's public half, in whose extensions it
// says what it knows about the key. The certificate of the device's own key, which Yubico
// put into it, leads over one of Yubico's sub-CAs to Yubico's root. Sources: "Attestation"
// in Yubico's developer documents (developers.yubico.com/YubiHSM2/Concepts) and the page of
// OIDs at docs.yubico.com/hardware/oid; what they leave open was seen in certificates of
// real devices, which are in testdata.
//
// What verifies an attestation imports nothing that makes one.
package yubico

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// yubicoRoot is "Yubico YubiHSM Root CA", until 2071-10-05, as Yubico publishes it:
// https://developers.yubico.com/YubiHSM2/Concepts/yubihsm2-attest-ca-crt.pem
//
//go:embed yubico-root.pem
var yubicoRoot []byte

// yubicoFingerprint is the SHA-256 of the root's DER.
const yubicoFingerprint = "094a3ac493c2bdcd65a54bdf40190f52bb03f7156397a3fc69d8aa9a392fb724"

// yubicoSubCA is "Yubico YubiHSM 6742036 Sub-CA", which devices do not carry with them:
// https://developers.yubico.com/YubiHSM2/Concepts/E45DA5F361B091B30D8F2C6FA040DB6FEF57918E.pem
//
//go:embed yubico-sub-ca-6742036.pem
var yubicoSubCA []byte

// certificateBlock is the type of a certificate in PEM.
const certificateBlock = "CERTIFICATE"

// Anchor is the root certificate that the certificates have to lead to. The zero Anchor is
// Yubico's.
type Anchor struct{ der []byte }

// ParseAnchor returns the anchor with the one certificate in the PEM text.
func ParseAnchor(text []byte) (Anchor, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != certificateBlock || len(bytes.TrimSpace(rest)) > 0 {
		return Anchor{}, errors.New("a root has to be one certificate in PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return Anchor{}, fmt.Errorf("cannot use the root: %w", err)
	}
	return Anchor{block.Bytes}, nil
}

// bytes returns the certificate in DER. Only a build with another file than the one whose
// fingerprint is above can fail.
func (a Anchor) bytes() ([]byte, error) {
	if a.der != nil {
		return a.der, nil
	}
	block, _ := pem.Decode(yubicoRoot)
	if block == nil || fingerprint(block.Bytes) != yubicoFingerprint {
		return nil, errors.New("the root in this program is not the one of Yubico")
	}
	return block.Bytes, nil
}

// IsYubico reports whether a is the root of Yubico.
func (a Anchor) IsYubico() bool { return a.Fingerprint() == yubicoFingerprint }

// Fingerprint returns the SHA-256 of the certificate in lower-case hex.
func (a Anchor) Fingerprint() string {
	der, err := a.bytes()
	if err != nil {
		return ""
	}
	return fingerprint(der)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// pools returns the root, and what may stand between it and a device: the certificates that
// are given, and Yubico's.
func (a Anchor) pools(between []*x509.Certificate) (roots, middle *x509.CertPool, err error) {
	der, err := a.bytes()
	if err != nil {
		return nil, nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	roots, middle = x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	middle.AppendCertsFromPEM(yubicoSubCA)
	for _, c := range between {
		middle.AddCert(c)
	}
	return roots, middle, nil
}
