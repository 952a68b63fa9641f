package yubihsmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
)

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
	cert.ExtraExtensions = slices.Concat(c.d.attester.identity, attested(o))
	public, err := publicKeyOf(o.Algorithm, o.secret)
	if err != nil {
		return nil, InvalidData
	}
	out, err := x509.CreateCertificate(rand.Reader, cert, parent, public, signer)
	if err != nil {
		return nil, InvalidData
	}
	return out, nil
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
