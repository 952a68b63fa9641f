package kwp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
)

// errRSA is one for all that is wrong: which part it is in, is nobody's business who sends
// ciphertexts to learn about the key.
var errRSA = errors.New("the wrapped key is damaged, or wrapped to another key")

// WrapRSA encrypts a key to an RSA key, as PKCS#11's CKM_RSA_AES_KEY_WRAP has it with SHA-256:
// an AES key of 256 bits, by RSAES-OAEP without a label, as long as the modulus; and the key
// under that, by [Wrap].
func WrapRSA(to *rsa.PublicKey, key []byte) ([]byte, error) {
	kek := make([]byte, 32)
	rand.Read(kek)
	defer clear(kek)
	head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, kek, nil)
	if err != nil {
		return nil, err
	}
	tail, err := Wrap(kek, key)
	return append(head, tail...), err
}

// UnwrapRSA decrypts what WrapRSA returned.
func UnwrapRSA(private *rsa.PrivateKey, wrapped []byte) ([]byte, error) {
	size := private.Size()
	if len(wrapped) < size {
		return nil, errRSA
	}
	kek, err := rsa.DecryptOAEP(sha256.New(), nil, private, wrapped[:size], nil)
	if err != nil || len(kek) != 32 {
		return nil, errRSA
	}
	defer clear(kek)
	key, err := Unwrap(kek, wrapped[size:])
	if err != nil {
		return nil, errRSA
	}
	return key, nil
}
