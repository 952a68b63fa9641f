package hostlink

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
)

// A secret on its way into an enclave is encrypted to the RSA key that an
// attestation document of purpose "import" names as its public_key:
//
//	RSAES-OAEP-SHA256 of a 32-byte key, label "privyseal import", as long as the
//	modulus; then AES-256-GCM of the secret under that key, with a nonce of zeros,
//	since the key is used once. Additional data is the Import as JSON, without
//	secret and credentials.
//
// So chain, public key and state are those that were meant where the secret was
// sealed: the host in between can neither exchange nor lower them.
const importLabel = "privyseal import"

// errNotSealed says that a secret was not sealed to this import key, or was
// altered, or its chain, public key or state was.
var errNotSealed = errors.New("the secret is not sealed to this import key, or it or its state was altered")

// Seal encrypts the secret of i to an import key, into i.Sealed. All other fields
// but the credentials are set before, and do not change after. Whoever calls it
// has verified the document that names the key.
func (i *Import) Seal(to *rsa.PublicKey, secret []byte) error {
	bound, err := i.bound()
	if err != nil {
		return err
	}
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, key, []byte(importLabel))
	if err != nil {
		return err
	}
	aead, err := secretAEAD(key)
	if err != nil {
		return err
	}
	i.Sealed = aead.Seal(sealed, make([]byte, aead.NonceSize()), secret, bound)
	return nil
}

// Open decrypts what [Import.Seal] made.
func (i *Import) Open(key *rsa.PrivateKey) ([]byte, error) {
	bound, err := i.bound()
	if err != nil {
		return nil, err
	}
	size := key.Size()
	if len(i.Sealed) < size {
		return nil, errNotSealed
	}
	inner, err := rsa.DecryptOAEP(sha256.New(), nil, key, i.Sealed[:size], []byte(importLabel))
	if err != nil || len(inner) != 32 {
		return nil, errNotSealed
	}
	defer clear(inner)
	aead, err := secretAEAD(inner)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, make([]byte, aead.NonceSize()), i.Sealed[size:], bound)
	if err != nil {
		return nil, errNotSealed
	}
	return secret, nil
}

// bound returns what the secret is bound to.
func (i *Import) bound() ([]byte, error) {
	b := *i
	b.Sealed, b.KMS, b.Credentials = nil, nil, Credentials{}
	return json.Marshal(b)
}

func secretAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
