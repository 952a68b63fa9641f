package sgxseal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rsa"
	"errors"

	"privyseal/internal/kwp"
	"privyseal/internal/policy"
)

// keySize is how many bytes the key of a backup has.
const keySize = 32

// The suite of HPKE: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, in base mode.
func suite() (hpke.KDF, hpke.AEAD) { return hpke.HKDFSHA256(), hpke.AES256GCM() }

// encryptTo encrypts the key of a backup to a recipient. HPKE binds info; the form of HSMs
// has no place for it.
func encryptTo(to policy.Recipient, key, info []byte) ([]byte, error) {
	switch {
	case to.X25519 != nil:
		public, err := hpke.NewDHKEMPublicKey(to.X25519)
		if err != nil {
			return nil, err
		}
		kdf, aead := suite()
		return hpke.Seal(public, kdf, aead, info, key)
	case to.RSA != nil:
		return kwp.WrapRSA(to.RSA, key)
	}
	return nil, errors.New("nobody is to open it")
}

// Recovery is the private half of a recovery key: one of both.
type Recovery struct {
	X25519 *ecdh.PrivateKey
	RSA    *rsa.PrivateKey
}

// Recipient returns the public half.
func (r Recovery) Recipient() policy.Recipient {
	switch {
	case r.X25519 != nil:
		return policy.Recipient{X25519: r.X25519.PublicKey()}
	case r.RSA != nil:
		return policy.Recipient{RSA: &r.RSA.PublicKey}
	}
	return policy.Recipient{}
}

// decrypt opens what encryptTo made.
func (r Recovery) decrypt(encrypted, info []byte) ([]byte, error) {
	switch {
	case r.X25519 != nil:
		private, err := hpke.NewDHKEMPrivateKey(r.X25519)
		if err != nil {
			return nil, err
		}
		kdf, aead := suite()
		return hpke.Open(private, kdf, aead, info, encrypted)
	case r.RSA != nil:
		return kwp.UnwrapRSA(r.RSA, encrypted)
	}
	return nil, errors.New("there is no recovery key")
}
