// Package statement is what an attestation document of ours says of a key, whatever kind of
// enclave made it: read, compared with what somebody expects, and printed.
//
// It trusts nothing, and proves nothing: whether the document is genuine, and of an enclave
// that says the truth, its caller knows.
package statement

import (
	"encoding/base64"
	"fmt"
	"strings"

	"privyseal/internal/claims"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/watermark"
)

// Statement is what a document says in its user data.
type Statement struct {
	claims.Claims
	PublicKey pubkey.Key // zero if it is only known by its hash, or not at all
}

// Read reads user data.
func Read(data []byte) (Statement, error) {
	c, err := claims.Decode(data)
	if err != nil {
		return Statement{}, err
	}
	s := Statement{Claims: c}
	if c.Key == "" || strings.HasPrefix(c.Key, "sha256:") {
		return s, nil
	}
	raw, err := base64.StdEncoding.DecodeString(c.Key)
	if err != nil {
		return Statement{}, fmt.Errorf("the document's public key is not base64: %w", err)
	}
	typ, err := pubkey.ParseType(c.KeyType)
	if err == nil {
		s.PublicKey, err = pubkey.New(typ, raw)
	}
	if err != nil {
		return Statement{}, err
	}
	return s, nil
}

// Compare reports to differs what is not as expected. What is empty is not expected.
func (s Statement) Compare(chainID, publicKey string, differs func(field, got, want string)) {
	if chainID != "" && s.Chain != chainID {
		differs("chain id", s.Chain, chainID)
	}
	if publicKey != "" && !s.hasKey(publicKey) {
		differs("public key", s.Key, publicKey)
	}
}

// hasKey reports whether it is about the public key in text, in any format.
func (s Statement) hasKey(text string) bool {
	if !s.PublicKey.IsZero() {
		return keytext.Names(text, s.PublicKey)
	}
	if key, err := keytext.Parse(text); err == nil {
		return s.Key == claims.EncodeKey(key.Bytes()) && s.KeyType == string(key.Type())
	}
	return s.Key != "" && s.Key == text
}

// Signed says how far the key had signed, "" if the document does not.
func (s Statement) Signed() string {
	switch s.Mark {
	case "":
		return ""
	case (watermark.Mark{}).String():
		return fmt.Sprintf("it had signed nothing yet, record %d, in boot %s", s.Seq, s.Boot)
	}
	return fmt.Sprintf("it had signed up to %s, record %d, in boot %s", s.Mark, s.Seq, s.Boot)
}

// Line prints a line of a report.
type Line func(format string, args ...any)

// Fields prints names and values. What is empty is left out.
func (line Line) Fields(fields ...[2]string) {
	for _, f := range fields {
		if f[1] != "" {
			line("%-11s %s", f[0], f[1])
		}
	}
}

// Key prints the public key in each format, or what is known of it.
func (line Line) Key(s Statement) {
	if s.PublicKey.IsZero() {
		line.Fields([2]string{"public key", s.Key})
		return
	}
	line("public key")
	for _, format := range keytext.Formats() {
		if text, err := (keytext.Form{Format: format}).Text(s.PublicKey); err == nil {
			line("  %-11s %s", format, text)
		}
	}
}

// Proof prints what a document proves, and what a reader could believe all the same.
func (line Line) Proof(proves, not []string) {
	line("\nit proves:")
	for _, text := range proves {
		line("  + %s", text)
	}
	line("it does not prove:")
	for _, text := range not {
		line("  - %s", text)
	}
}
