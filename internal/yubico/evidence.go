package yubico

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxBetween = 4
	maxText    = (2 + maxBetween) * 2 * maxCertificate
)

// keyIdentifier is the size in bytes of what Yubico's certificates call a key by (RFC 5280,
// 4.2.1.2).
const keyIdentifier = 20

// Evidence are the certificates that prove something about a key, in DER.
type Evidence struct {
	Key     []byte   // the device's of the key
	Device  []byte   // Yubico's of the device: opaque object 0
	Between [][]byte // between the root and the device's, without those of Yubico that are known here
}

// Parse reads the evidence in a file: certificates in PEM in the order of the fields. For
// what it accepts, PEM returns the same text.
func Parse(text []byte) (Evidence, error) {
	var list [][]byte
	rest := text
	for len(rest) > 0 && len(text) <= maxText && len(list) < 2+maxBetween {
		block, next := pem.Decode(rest)
		if block == nil {
			break
		}
		list, rest = append(list, block.Bytes), next
	}
	if len(list) < 2 {
		return Evidence{}, errors.New("an attestation is two or more certificates in PEM: of the key, of the device, and of those between it and the root")
	}
	e := Evidence{list[0], list[1], list[2:]}
	if !bytes.Equal(e.PEM(), text) {
		return Evidence{}, errors.New("there is something else than certificates in the attestation's file")
	}
	return e, nil
}

// PEM returns the evidence as it stands in a file.
func (e Evidence) PEM() []byte {
	var text []byte
	for _, der := range append([][]byte{e.Key, e.Device}, e.Between...) {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der})...)
	}
	return text
}

var (
	// errChain is a certificate of a device that does not lead to the root, or is not one.
	errChain = errors.New("the certificate of the device does not lead to the root")
	// errSignature is a certificate of a key that the device has not signed.
	errSignature = errors.New("the device has not signed the certificate of the key")
)

// Verify checks that the certificates lead from the key to the anchor, and are valid at the
// time at, and returns what the device says about the key. An error says whether
// the device is not genuine, the key is not the device's, or what is malformed.
func (e Evidence) Verify(anchor Anchor, at time.Time) (*Attestation, error) {
	device, serial, err := e.device(anchor, at)
	if err != nil {
		return nil, err
	}
	return attestedBy(device, serial, e.Key, at)
}

// VerifyDevice checks the certificate of the device alone, without a key, and returns the
// serial number of the device. The errors are those of Verify.
func (e Evidence) VerifyDevice(anchor Anchor, at time.Time) (serial uint32, err error) {
	_, serial, err = e.device(anchor, at)
	return serial, err
}

// device returns the certificate of the device, if it leads to the anchor, and its serial
// number.
func (e Evidence) device(anchor Anchor, at time.Time) (device *x509.Certificate, serial uint32, err error) {
	if len(e.Between) > maxBetween {
		return nil, 0, fmt.Errorf("%w: there are %d certificates between them", errChain, len(e.Between))
	}
	if device, err = parseX509(e.Device); err != nil {
		return nil, 0, err
	}
	var between []*x509.Certificate
	for _, der := range e.Between {
		c, err := parseX509(der)
		if err != nil {
			return nil, 0, err
		}
		between = append(between, c)
	}
	roots, middle, err := anchor.pools(between)
	if err != nil {
		return nil, 0, err
	}
	if _, err := device.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, 0, chainError(device, append(between, subCAs()...), err)
	}
	if serial, err = deviceSerial(device); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errChain, err)
	}
	return device, serial, nil
}

// IssuerError is the certificate of a device whose issuer is not known here.
type IssuerError struct {
	Issuer string // its name, as the certificate has it
	// URL is where Yubico publishes the issuer's certificate, if it is one of Yubico's; "" if
	// the certificate does not say which one it is.
	URL string
}

func (e *IssuerError) Error() string {
	return fmt.Sprintf("%v: it was issued by %.80q, whose certificate is not known here", errChain, e.Issuer)
}

func (e *IssuerError) Unwrap() error { return errChain }

// chainError says why the certificate of a device does not lead to the root.
func chainError(device *x509.Certificate, known []*x509.Certificate, err error) error {
	isIssuer := func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, device.RawIssuer) }
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown || slices.ContainsFunc(known, isIssuer) {
		return fmt.Errorf("%w: %w", errChain, err)
	}
	e := &IssuerError{Issuer: device.Issuer.CommonName}
	if id := device.AuthorityKeyId; len(id) == keyIdentifier {
		e.URL = fmt.Sprintf("https://developers.yubico.com/YubiHSM2/Concepts/%X.pem", id)
	}
	return e
}

func parseX509(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("a certificate of %d bytes is too large", len(der))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("a certificate is malformed: %w", err)
	}
	return c, nil
}

// deviceSerial returns the serial number in the certificate of a device. What a device
// signs about a key leads to the root as well, and the key could sign anything; but it
// describes the key, and is not a CA's.
func deviceSerial(c *x509.Certificate) (uint32, error) {
	if !c.BasicConstraintsValid || !c.IsCA {
		return 0, errors.New("it may not sign certificates")
	}
	of, err := extensionsOf(c.Extensions)
	if err != nil {
		return 0, err
	}
	if of[origin] != nil {
		return 0, errors.New("it is one of a key")
	}
	return serialOf(of)
}

// attestedBy reads the certificate of a key that a device has signed.
func attestedBy(device *x509.Certificate, serial uint32, der []byte, at time.Time) (*Attestation, error) {
	c, err := parseKey(der)
	if err != nil {
		return nil, err
	}
	var algorithm x509.SignatureAlgorithm
	switch device.PublicKey.(type) {
	case *rsa.PublicKey:
		algorithm = x509.SHA256WithRSA
	case *ecdsa.PublicKey:
		algorithm = x509.ECDSAWithSHA256
	}
	if !bytes.Equal(c.issuer, device.RawSubject) {
		return nil, fmt.Errorf("%w: it was issued by another one", errSignature)
	}
	if err := device.CheckSignature(algorithm, c.signed, c.signature); err != nil {
		return nil, fmt.Errorf("%w: %w", errSignature, err)
	}
	if at.Before(c.notBefore) || at.After(c.notAfter) {
		return nil, fmt.Errorf("the certificate of the key is valid from %s to %s, not at %s",
			c.notBefore.Format(time.RFC3339), c.notAfter.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	a, err := attestationOf(c)
	if err != nil {
		return nil, err
	}
	a.Until = c.notAfter
	if device.NotAfter.Before(a.Until) {
		a.Until = device.NotAfter
	}
	if a.Serial != serial {
		return nil, fmt.Errorf("the certificate of the key names the device %d, and that of the device %d", a.Serial, serial)
	}
	return a, nil
}
