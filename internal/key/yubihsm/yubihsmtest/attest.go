package yubihsmtest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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
	cert.SignatureAlgorithm = x509.ECDSAWithSHA256
	out, err := certifyKey(cert, parent, o, signer)
	if err != nil { // such as the certificate of another key
		return nil, InvalidData
	}
	return out, nil
}

// certifyKey signs a certificate of an asymmetric key.
func certifyKey(cert, parent *x509.Certificate, o *object, signer crypto.Signer) ([]byte, error) {
	if o.Algorithm == K256 {
		return certifyK256(cert, parent, publicOf(o.Algorithm, o.secret), signer)
	}
	public, err := publicKeyOf(o.Algorithm, o.secret)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, cert, parent, public, signer)
}

// certifyK256 makes a certificate of a key that crypto/x509 does not know: with the
// signer's own in its place, which is then exchanged.
func certifyK256(cert, parent *x509.Certificate, public []byte, signer crypto.Signer) ([]byte, error) {
	made, err := x509.CreateCertificate(rand.Reader, cert, parent, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	var whole struct {
		TBS       []asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(made, &whole); err != nil {
		return nil, err
	}
	var info struct {
		Algorithm struct{ Key, Curve asn1.ObjectIdentifier }
		Public    asn1.BitString
	}
	info.Algorithm.Key, info.Algorithm.Curve = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	info.Public = asn1.BitString{Bytes: append([]byte{4}, public...), BitLength: 8 * (1 + len(public))}
	if whole.TBS[6].FullBytes, err = asn1.Marshal(info); err != nil {
		return nil, err
	}
	tbs, err := asn1.Marshal(whole.TBS)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(tbs)
	signature, err := signer.Sign(rand.Reader, hash[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	whole.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(whole)
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
	if err != nil {
		return nil, nil, InvalidData
	}
	signer, err := nistKey(key.Algorithm, key.secret)
	if err != nil {
		return nil, nil, InvalidData
	}
	return parent, signer, nil
}
