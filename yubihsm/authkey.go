package yubihsm

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// AuthenticationKey is what opens sessions: two secret keys of AES-128. Copies share them,
// so that Wipe takes them from all. The zero value is no key.
type AuthenticationKey struct{ hidden hidden[authenticationKeys] }

type authenticationKeys struct{ enc, mac key128 }

// DeriveKey returns the authentication key of a password: PBKDF2 with HMAC-SHA-256, salt
// "Yubico", 10,000 rounds, 32 bytes, of which the first half encrypts (yubihsm.h). It takes
// some milliseconds. Let the password be random: the salt is the same everywhere, the device
// does not count failures, and who has seen a session being opened can guess without it.
func DeriveKey(password []byte) AuthenticationKey {
	derived, err := pbkdf2.Key(sha256.New, string(password), []byte("Yubico"), 10_000, 32)
	if err != nil {
		panic("yubihsm: " + err.Error()) // only under GODEBUG=fips140=only
	}
	defer clear(derived)
	return NewKey([16]byte(derived[:16]), [16]byte(derived[16:]))
}

// NewKey returns an authentication key of two keys of AES-128: for encryption (K-ENC) and
// for MACs (K-MAC).
func NewKey(enc, mac [16]byte) AuthenticationKey {
	return AuthenticationKey{hide(authenticationKeys{enc, mac})}
}

// Wipe takes the key out of memory. It and its copies open no session afterwards; none is
// being opened meanwhile.
func (k AuthenticationKey) Wipe() { k.hidden.wipe() }

// String does not return the key.
func (AuthenticationKey) String() string { return "YubiHSM authentication key (secret)" }

// Format prints what String returns, whatever the verb.
func (k AuthenticationKey) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is what slog logs: what String returns.
func (k AuthenticationKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// bytes returns the two keys, as a device stores them.
func (k AuthenticationKey) bytes() ([]byte, error) {
	keys := k.hidden.get()
	if keys == nil {
		return nil, errors.New("no authentication key for the YubiHSM")
	}
	return append(keys.enc[:len(keys.enc):len(keys.enc)], keys.mac[:]...), nil
}
