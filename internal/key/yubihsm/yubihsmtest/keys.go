package yubihsmtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
)

func (c *call) putAsymmetric() ([]byte, error) {
	o, err := c.described(AsymmetricKey)
	if err != nil {
		return nil, err
	}
	if o.secret, err = expand(o.Algorithm, c.in); err != nil {
		return nil, err
	}
	o.origin = imported
	return c.store(o)
}

func (c *call) generateAsymmetric() ([]byte, error) {
	o, err := c.described(AsymmetricKey)
	if err != nil {
		return nil, err
	}
	secret, err := newSecret(o.Algorithm)
	if err != nil {
		return nil, err
	}
	return c.storeNew(o, secret)
}

func (c *call) publicKey() ([]byte, error) {
	if len(c.in) == 3 && c.in[2] == byte(AsymmetricKey) {
		c.in = c.in[:2]
	}
	if len(c.in) != 2 {
		return nil, WrongLength
	}
	o, err := c.first(AsymmetricKey, 0)
	if err != nil {
		return nil, err
	}
	return append([]byte{o.Algorithm}, publicOf(o.Algorithm, o.secret)...), nil
}

func (c *call) signEdDSA() ([]byte, error) {
	o, err := c.first(AsymmetricKey, CanSignEdDSA)
	if err != nil {
		return nil, err
	}
	if o.Algorithm != Ed25519 {
		return nil, InvalidData
	}
	c.signs()
	return signEd(o.secret, c.in), nil
}

// signs says that what is left of the message will be signed.
func (c *call) signs() {
	if c.d.options.Signs != nil {
		c.d.options.Signs(c.target, bytes.Clone(c.in))
	}
}

func (c *call) signECDSA() ([]byte, error) {
	o, err := c.first(AsymmetricKey, CanSignECDSA)
	switch {
	case err != nil:
		return nil, err
	case len(c.in) == 0:
		return nil, WrongLength
	}
	c.signs()
	if o.Algorithm == K256 {
		return signK256(o.secret, c.in)
	}
	key, err := nistKey(o.Algorithm, o.secret)
	if err != nil {
		return nil, InvalidData
	}
	return ecdsa.SignASN1(rand.Reader, key, c.in)
}

func (c *call) putHMACKey() ([]byte, error) {
	o, err := c.described(HMACKey)
	if err != nil {
		return nil, err
	}
	if o.secret, err = hmacSecret(o.Algorithm, c.in); err != nil {
		return nil, err
	}
	o.origin = imported
	return c.store(o)
}

func (c *call) generateHMACKey() ([]byte, error) {
	o, err := c.described(HMACKey)
	if err != nil {
		return nil, err
	}
	secret, err := hmacSecret(o.Algorithm, random(max(1, blockSize(o.Algorithm)/2)))
	if err != nil {
		return nil, err
	}
	return c.storeNew(o, secret)
}

func (c *call) signHMAC() ([]byte, error) {
	o, err := c.first(HMACKey, CanSignHMAC)
	if err != nil {
		return nil, err
	}
	return hmacOf(o.Algorithm, o.secret, c.in), nil
}

func (c *call) verifyHMAC() ([]byte, error) {
	o, err := c.first(HMACKey, CanVerifyHMAC)
	if err != nil {
		return nil, err
	}
	size := newHash(o.Algorithm).Size()
	if len(c.in) < size {
		return nil, WrongLength
	}
	if bytes.Equal(hmacOf(o.Algorithm, o.secret, c.in[size:]), c.in[:size]) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}
