package yubihsmtest

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
)

// attester is what the factory gives a device: a key of its own and the certificate of it,
// with the chain that leads to a root.
type attester struct {
	key    *ecdsa.PrivateKey
	device *x509.Certificate
	middle *x509.Certificate
	root   *x509.Certificate
}

// extension returns the id of one of Yubico's extensions of a YubiHSM's certificates.
func extension(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, n}
}

// newAttester makes a root of our own in the place of Yubico's, and a device's certificate.
func newAttester(t testing.TB, o Options) *attester {
	t.Helper()
	rootKey, middleKey, key := newP256(t), newP256(t), newP256(t)
	a := &attester{key: key}
	a.root = certify(t, template("Simulated YubiHSM Root CA", true), nil, rootKey.Public(), rootKey)
	a.middle = certify(t, template("Simulated YubiHSM Attestation CA", true), a.root, middleKey.Public(), rootKey)
	device := template(fmt.Sprintf("YubiHSM Attestation (%d)", o.Serial), true)
	device.ExtraExtensions = identity(o)
	a.device = certify(t, device, a.middle, key.Public(), middleKey)
	return a
}

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string, isCA bool) *x509.Certificate {
	c := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(random(16)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2071, 10, 5, 0, 0, 0, 0, time.UTC)}
	if isCA {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	return c
}

// certify signs a certificate; without a parent, for itself.
func certify(t testing.TB, c, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Root returns the root of the device's attestations, and the certificate between it and
// the device's own, which is opaque object 0.
func (d *Device) Root() (root, middle *x509.Certificate) { return d.attester.root, d.attester.middle }

// identity are the extensions that name a device: firmware and serial number.
func identity(o Options) []pkix.Extension {
	return []pkix.Extension{
		{Id: extension(1), Value: der(4, o.Firmware[:])},
		{Id: extension(2), Value: integer(int64(o.Serial))},
	}
}

// der is a value of DER of up to 127 bytes, with its tag.
func der(tag byte, value []byte) []byte { return append([]byte{tag, byte(len(value))}, value...) }

// integer is an INTEGER of DER.
func integer(n int64) []byte {
	b, err := asn1.Marshal(n)
	if err != nil {
		panic(err) // there is none that cannot be written
	}
	return b
}

// bits is a BIT STRING of DER that has no unused bits.
func bits(b []byte) []byte { return der(3, append([]byte{0}, b...)) }

// attest answers a certificate of an asymmetric key, signed by another key or, if that is
// 0, by the device's own.
func (c *call) attest() ([]byte, error) {
	if len(c.in) != 4 {
		return nil, WrongLength
	}
	by := binary.BigEndian.Uint16(c.in[2:])
	c.in = c.in[:2]
	o, err := c.first(AsymmetricKey, 0)
	if err != nil {
		return nil, err
	}
	c.second = by
	parent, signer, err := c.attestingKey(by)
	if err != nil {
		return nil, err
	}
	cert := template(fmt.Sprintf("YubiHSM Attestation id 0x%04x", o.ID), false)
	cert.NotBefore, cert.NotAfter = parent.NotBefore, parent.NotAfter
	cert.ExtraExtensions = append(identity(c.d.options), attested(o)...)
	public, err := publicKeyOf(o)
	if err != nil {
		return nil, InvalidData
	}
	out, err := x509.CreateCertificate(rand.Reader, cert, parent, public, signer)
	if err != nil {
		return nil, InvalidData
	}
	return out, nil
}

// attested are the extensions that describe a key.
func attested(o *object) []pkix.Extension {
	return []pkix.Extension{
		{Id: extension(3), Value: bits([]byte{o.origin})},
		{Id: extension(4), Value: bits(binary.BigEndian.AppendUint16(nil, o.Domains))},
		{Id: extension(5), Value: bits(binary.BigEndian.AppendUint64(nil, uint64(o.Capabilities)))},
		{Id: extension(6), Value: integer(int64(o.ID))},
		{Id: extension(9), Value: der(12, []byte(o.Label))},
	}
}

// attestingKey returns the key that signs attestations, and its certificate, which is the
// opaque object of the same id.
func (c *call) attestingKey(id uint16) (*x509.Certificate, crypto.Signer, error) {
	if id == 0 {
		return c.d.attester.device, c.d.attester.key, nil
	}
	key, err := c.use(AsymmetricKey, id, CanAttest)
	if err != nil {
		return nil, nil, err
	}
	kept, err := c.lookup(Opaque, id)
	if err != nil {
		return nil, nil, err
	}
	parent, err := x509.ParseCertificate(kept.secret)
	if err != nil || key.Algorithm != P256 {
		return nil, nil, InvalidData
	}
	signer, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), key.secret[:32])
	if err != nil {
		return nil, nil, InvalidData
	}
	return parent, signer, nil
}

// publicKeyOf returns the public key as crypto/x509 wants it, which knows no secp256k1.
func publicKeyOf(o *object) (crypto.PublicKey, error) {
	public := publicOf(o.Algorithm, o.secret)
	switch o.Algorithm {
	case Ed25519:
		return ed25519.PublicKey(slices.Clone(public)), nil
	case P256:
		if _, err := ecdh.P256().NewPublicKey(append([]byte{4}, public...)); err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, public...))
	}
	return nil, InvalidData
}
