package words

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha512"
	"fmt"

	"privyseal/internal/bech32"
)

// mixing keeps the derivation of the entropy apart from others, in tmkms' words.
const mixing = "yubihsm setup BIP39 derivation"

// New mixes randomness of the device and of the host, at least 32 bytes each, to words: it
// is enough if one of them is good.
func New(device, host []byte) (Words, error) {
	if len(device) < entropySize || len(host) < entropySize {
		return Words{}, fmt.Errorf("the words take %d random bytes from the device and as many from the host, not %d and %d", entropySize, len(device), len(host))
	}
	both := append(append(make([]byte, 0, len(device)+len(host)), device...), host...)
	defer clear(both)
	entropy, err := hkdf.Key(sha512.New, both, nil, mixing, entropySize)
	if err != nil {
		return Words{}, fmt.Errorf("cannot mix randomness to words: %w", err)
	}
	return hide(entropy), nil
}

// Password returns the password of a role other than admin.
func (w Words) Password(role string) ([]byte, error) {
	key, err := w.derive("role", role)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	// A device keeps two keys of 128 bits, and tmkms takes no more bytes.
	return bech32.Encode("kms-"+role+"-password-", key[:entropySize/2])
}

// WrapKey returns the wrap key with an id, of AES-256.
func (w Words) WrapKey(id uint16) ([]byte, error) { return w.derive("wrap", fmt.Sprintf("0x%04x", id)) }

// derive is HKD32: each component of the path takes the key to the next one, by HMAC, whose
// second half goes on and whose first half is the result.
func (w Words) derive(path ...string) ([]byte, error) {
	entropy, err := w.reveal()
	if err != nil {
		return nil, err
	}
	key := bytes.Clone(entropy)
	path = append([]string{"1"}, path...) // the version of the hierarchy
	for i, component := range path {
		mac := hmac.New(sha512.New, key)
		mac.Write([]byte(component))
		sum := mac.Sum(nil)
		if i == len(path)-1 {
			copy(key, sum[:entropySize])
		} else {
			copy(key, sum[entropySize:])
		}
		clear(sum)
	}
	return key, nil
}
