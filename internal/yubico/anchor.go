// Package yubico verifies what a YubiHSM 2 attests about a key: that it was made in the
// device, say, and cannot be exported. It asks nobody; certificates are all that it takes.
//
// The device signs an X.509 certificate over the key's public half, in whose extensions it
// says what it knows about the key. The certificate of the device's own key, which Yubico
// put into it, leads to a certificate of Yubico's. Sources: "Attestation"
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

// yubicoSecond is "YubiHSM Attestation B2 1", the branch for YubiHSMs of Yubico's second PKI,
// which is one for all its devices: https://developers.yubico.com/PKI/yubico-intermediate.pem
//
// It is trusted itself, and not the root that it leads to ("Yubico Attestation Root 1", in
// testdata): below that root there are the keys of YubiKeys. Yubico's repository of that
// site and other programs' copies of the root agree. No device of this branch was seen.
//
//go:embed yubihsm-attestation-b2-1.pem
var yubicoSecond []byte

// secondFingerprint is the SHA-256 of its DER.
const secondFingerprint = "77d88e6363149ad6ba58a2ca1b8b407206ec57e7537c16cefbbc5edc39efb8e1"

// yubicoSubCA is "Yubico YubiHSM 6742036 Sub-CA", which devices do not carry with them:
// https://developers.yubico.com/YubiHSM2/Concepts/E45DA5F361B091B30D8F2C6FA040DB6FEF57918E.pem
//
//go:embed yubico-sub-ca-6742036.pem
var yubicoSubCA []byte

// certificateBlock is the type of a certificate in PEM.
const certificateBlock = "CERTIFICATE"

// Anchor is what the certificates have to lead to. The zero Anchor is Yubico's: its root of
// YubiHSMs, and the branch for them of its second PKI.
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

// certificates returns the certificates in DER. Only a build with other files than those
// whose fingerprints are above can fail.
func (a Anchor) certificates() (list [][]byte, err error) {
	if a.der != nil {
		return [][]byte{a.der}, nil
	}
	for _, own := range []struct {
		text        []byte
		fingerprint string
	}{{yubicoRoot, yubicoFingerprint}, {yubicoSecond, secondFingerprint}} {
		block, _ := pem.Decode(own.text)
		if block == nil || fingerprint(block.Bytes) != own.fingerprint {
			return nil, errors.New("a root in this program is not the one of Yubico")
		}
		list = append(list, block.Bytes)
	}
	return list, nil
}

// IsYubico reports whether a is Yubico's.
func (a Anchor) IsYubico() bool { return a.Fingerprint() == yubicoFingerprint }

// Fingerprint returns the SHA-256 of the certificate in lower-case hex; of Yubico's, that of
// its root of YubiHSMs.
func (a Anchor) Fingerprint() string {
	if a.der == nil {
		return yubicoFingerprint
	}
	return fingerprint(a.der)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// pools returns what is trusted, and what may stand between it and a device: the certificates
// that are given, and Yubico's.
func (a Anchor) pools(between []*x509.Certificate) (roots, middle *x509.CertPool, err error) {
	list, err := a.certificates()
	if err != nil {
		return nil, nil, err
	}
	roots, middle = x509.NewCertPool(), x509.NewCertPool()
	for _, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		roots.AddCert(c)
	}
	for _, c := range append(between, subCAs()...) {
		middle.AddCert(c)
	}
	return roots, middle, nil
}

// subCAs returns Yubico's certificates between its root and its devices.
func subCAs() []*x509.Certificate {
	block, _ := pem.Decode(yubicoSubCA)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err) // a test reads it
	}
	return []*x509.Certificate{c}
}
