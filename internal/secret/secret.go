// Package secret holds secrets that go from room to room, so that nothing prints
// them: not fmt, whatever the verb and however deep they stand, not slog, and not an
// encoder of JSON or TOML. Whoever needs one says so, by Reveal.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Text is a text that only [Text.Reveal] shows. Its zero value is "".
type Text struct{ text *string } // fmt does not follow a pointer below the top

// New hides text.
func New(text string) Text { return Text{&text} }

// Reveal returns the text.
func (t Text) Reveal() string {
	if t.text == nil {
		return ""
	}
	return *t.text
}

// Equal reports whether both hide the same text.
func (t Text) Equal(u Text) bool { return t.Reveal() == u.Reveal() }

// UnmarshalText hides text.
func (t *Text) UnmarshalText(text []byte) error {
	*t = New(string(text))
	return nil
}

// MarshalText shows nothing, to JSON, TOML and slog.
func (t Text) MarshalText() ([]byte, error) { return []byte("secret"), nil }

// Format shows nothing, for every verb of fmt.
func (t Text) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// Bytes are bytes that only [Bytes.Reveal] shows. The zero value is no bytes.
type Bytes struct{ bytes **[]byte } // fmt follows one pointer to a slice, for verbs that pointers do not have

// NewBytes hides b, which is not copied.
func NewBytes(b []byte) Bytes {
	p := &b
	return Bytes{&p}
}

// Reveal returns the bytes, which all copies share.
func (b Bytes) Reveal() []byte {
	if b.bytes == nil {
		return nil
	}
	return **b.bytes
}

// Clear overwrites the bytes with zeros, for all copies.
func (b Bytes) Clear() { clear(b.Reveal()) }

// Equal reports whether both hide the same bytes.
func (b Bytes) Equal(c Bytes) bool { return subtle.ConstantTimeCompare(b.Reveal(), c.Reveal()) == 1 }

// MarshalText shows nothing, to JSON, TOML and slog.
func (b Bytes) MarshalText() ([]byte, error) { return []byte("secret"), nil }

// Format shows nothing, for every verb of fmt.
func (b Bytes) Format(f fmt.State, _ rune) { io.WriteString(f, "secret") }

// AWS are AWS credentials. They are worth nothing for a KMS key whose policy asks for
// an attestation document, and still go to nobody but KMS.
type AWS struct {
	AccessKeyID     string // not secret
	SecretAccessKey Text
	SessionToken    Text      // "" for a user's long-term credentials
	Expires         time.Time // zero if unknown or never
}

// Key is a private key with what says where it belongs. Printed or logged, it shows
// what is public.
type Key struct {
	ChainID string // "" for an identity
	KeyType string // CometBFT's name
	Public  []byte
	Secret  Bytes
	Origin  string    // claims.Generated or claims.Imported
	Created time.Time // in whole seconds; the zero time in a key that is made means now
}

// Format prints what is public, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.public()) }

// LogValue is what slog logs: what is public.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.public()) }

func (k *Key) public() string {
	return fmt.Sprintf("secret of the %s key %.8x… for chain %q", k.KeyType, k.Public, k.ChainID)
}
