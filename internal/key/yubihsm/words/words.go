// Package words holds the 24 words that a YubiHSM is set up from, and derives from them
// what tmkms derives: the passwords of the roles, and wrap keys. A device that tmkms set up
// can be restored from its words, and the other way around.
//
// The words are 32 bytes of entropy with a checksum (BIP 39). Passwords and keys come from
// the entropy itself, by tmkms' HKD32, not from the seed that BIP 39 makes for wallets.
//
// Whoever has the words has everything. Nothing prints them, and errors do not contain
// what was typed. What the methods return is the caller's to overwrite.
package words

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// entropySize is the size in bytes of what the words stand for, and of wrap keys.
const entropySize = 32

// Words are the 24 words. Copies share the secret, so that Wipe takes it from all. The zero
// value has no words.
type Words struct{ entropy **[]byte } // fmt follows one pointer, if the verb does not suit

// ErrNone says that there are no words: they were wiped.
var ErrNone = errors.New("there are no words: they were wiped from memory")

func hide(entropy []byte) Words {
	p := &entropy
	return Words{&p}
}

func (w Words) reveal() ([]byte, error) {
	if w.entropy == nil || *w.entropy == nil {
		return nil, ErrNone
	}
	return **w.entropy, nil
}

// Wipe overwrites the secret. The words and their copies derive nothing afterwards.
func (w Words) Wipe() {
	if entropy, err := w.reveal(); err == nil {
		clear(entropy)
		*w.entropy = nil
	}
}

// String does not return the words.
func (Words) String() string { return "24 secret words" }

// Format prints what String returns, whatever the verb.
func (w Words) Format(f fmt.State, _ rune) { io.WriteString(f, w.String()) }

// LogValue is what slog logs: what String returns.
func (w Words) LogValue() slog.Value { return slog.StringValue(w.String()) }

// MarshalText shows nothing, to JSON and TOML.
func (w Words) MarshalText() ([]byte, error) { return []byte(w.String()), nil }
