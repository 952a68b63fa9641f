package soft

import (
	"crypto/hkdf"
	"crypto/sha256"

	"privyseal/internal/pubkey"
)

// What an enclave needs of a key that lives nowhere else in the clear. No
// command calls these.

// FromSecret makes the key of type t from what [Key.Secret] returned. It copies
// secret.
func FromSecret(t pubkey.Type, secret []byte) (*Key, error) { return fromSecret(t, secret) }

// Secret returns a copy of the secret, to be encrypted at once and cleared.
func (k Key) Secret() []byte { return k.bytes() }

// Derive returns 32 bytes that only a holder of the key can know, for one use:
// HKDF-SHA256 over the secret, without salt, with use as info.
func (k Key) Derive(use string) ([32]byte, error) {
	secret := k.bytes()
	defer clear(secret)
	b, err := hkdf.Key(sha256.New, secret, nil, "privyseal "+use, 32)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(b), nil
}
