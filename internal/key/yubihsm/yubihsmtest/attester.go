package yubihsmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"time"
)

// attester is what the factory gives a device: a key of its own and the certificate of it,
// with the chain that leads to a root.
type attester struct {
	key    *ecdsa.PrivateKey
	device *x509.Certificate
	middle *x509.Certificate
	root   *x509.Certificate

	identity []pkix.Extension // those that name the device: firmware and serial number
}

// extension returns the id of one of Yubico's extensions of a YubiHSM's certificates.
func extension(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, n}
}

// newAttester makes a root of our own in place of Yubico's, and a device's certificate.
func newAttester(serial uint32, firmware [3]byte) *attester {
	rootKey, middleKey, key := newP256(), newP256(), newP256()
	a := &attester{key: key, identity: []pkix.Extension{
		{Id: extension(1), Value: der(4, firmware[:])},
		{Id: extension(2), Value: integer(int64(serial))},
	}}
	a.root = certify(template("Simulated YubiHSM Root CA", true), nil, rootKey.Public(), rootKey)
	a.middle = certify(template("Simulated YubiHSM Attestation CA", true), a.root, middleKey.Public(), rootKey)
	device := template(fmt.Sprintf("YubiHSM Attestation (%d)", serial), true)
	device.ExtraExtensions = a.identity
	a.device = certify(device, a.middle, key.Public(), middleKey)
	return a
}

func newP256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // there is always randomness
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
func certify(c, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		panic(err) // all of them are ours
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return made
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
