// Package backup reads and writes wrapped backups of a YubiHSM's keys without the device:
// Ed25519 and secp256k1 keys, encrypted under a wrap key, as devices export them, as
// yubihsm-wrap writes them, and as tmkms keeps them.
//
// The form is that of yubihsm-wrap 2.6: a nonce of 13 bytes, then ciphertext and tag of
// AES-CCM. In the ciphertext stand 59 bytes that describe the object, and the key: of
// Ed25519 the scalar in big endian, the prefix and the public key; of secp256k1 the scalar
// and both coordinates. In files it is base64.
//
// Who has the wrap key has the key. No error says anything about the secret.
package backup

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"privyseal/yubihsm"
)

const (
	tagSize  = 16
	overhead = nonceSize + tagSize
	// maxText bounds in bytes the file of a backup. No message of a device is longer.
	maxText = 2 * yubihsm.MaxMessage
)

var (
	// errWrapKey is a backup that the wrap key does not open.
	errWrapKey = errors.New("the wrap key does not open the backup: it was made with another one, or the backup is damaged")
	// errShort is a backup that the wrap key does not open, and that is shorter than the
	// backup of any key is that signs votes.
	errShort = fmt.Errorf("the backup is cut short: that of a key that signs votes has %d bytes", overhead+plainSize)
)

// Decode returns the bytes of a backup that is in a file, as base64.
func Decode(text []byte) ([]byte, error) {
	text = bytes.TrimSpace(text)
	if len(text) > maxText {
		return nil, fmt.Errorf("%d bytes are not the backup of a key", len(text))
	}
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(blob, text)
	if err != nil || n == 0 {
		return nil, errors.New("the backup is not base64, or is cut short")
	}
	return blob[:n], nil
}

// Whole refuses what is shorter than the backup of any key that signs votes.
func Whole(blob []byte) error {
	if len(blob) < overhead+plainSize {
		return errShort
	}
	return nil
}

// Encode returns a file with a backup, as base64. It has no line end, with which tmkms would
// not read it.
func Encode(blob []byte) []byte { return base64.StdEncoding.AppendEncode(nil, blob) }

// wrapAlgorithm returns the algorithm of a wrap key, 0 if it is not one.
func wrapAlgorithm(wrapKey []byte) yubihsm.Algorithm {
	return map[int]yubihsm.Algorithm{16: yubihsm.AES128CCMWrap, 24: yubihsm.AES192CCMWrap, 32: yubihsm.AES256CCMWrap}[len(wrapKey)]
}

// cipherOf returns what encrypts under a wrap key.
func cipherOf(wrapKey []byte) (ccm, error) {
	if wrapAlgorithm(wrapKey) == 0 {
		return ccm{}, fmt.Errorf("a wrap key has 16, 24 or 32 bytes, not %d", len(wrapKey))
	}
	return newCCM(wrapKey, tagSize)
}

// Unwrap opens what a device has encrypted under a wrap key, whatever it is. Where it does
// not open, that is the error.
func Unwrap(wrapKey, blob []byte) ([]byte, error) {
	c, err := cipherOf(wrapKey)
	if err != nil {
		return nil, err
	}
	if len(blob) < overhead {
		return nil, errShort
	}
	plain, err := c.open(blob[:nonceSize], blob[nonceSize:], nil)
	if err != nil {
		return nil, errWrapKey
	}
	return plain, nil
}

// Open reads a backup.
func Open(wrapKey, blob []byte) (*Backup, error) {
	plain, err := Unwrap(wrapKey, blob)
	switch {
	case errors.Is(err, errWrapKey) && Whole(blob) != nil:
		return nil, errShort
	case err != nil:
		return nil, err
	}
	defer clear(plain)
	return parse(plain, wrapAlgorithm(wrapKey))
}

// Seal writes the backup.
func (b *Backup) Seal(wrapKey []byte) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce) // it never fails
	return b.seal(wrapKey, nonce)
}

func (b *Backup) seal(wrapKey, nonce []byte) ([]byte, error) {
	c, err := cipherOf(wrapKey)
	if err != nil {
		return nil, err
	}
	plain, err := b.plain(wrapAlgorithm(wrapKey))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return append(bytes.Clone(nonce), c.seal(nonce, plain, nil)...), nil
}
