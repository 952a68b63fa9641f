package soft

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// Derive returns 32 bytes that only a holder of the key can know, for one use:
// HKDF-SHA256 over the secret, without salt, with use as info.
func (k Key) Derive(use string) ([32]byte, error) {
	secret := k.Secret()
	defer clear(secret)
	b, err := hkdf.Key(sha256.New, secret, nil, "privyseal "+use, 32)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(b), nil
}
