package verify

import (
	"encoding/base64"
	"fmt"
	"strings"

	"privyseal/internal/claims"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/sgx"
)

// statement is what a document says in its user data.
type statement struct {
	claims.Claims
	key pubkey.Key // zero if it is only known by its hash, or not at all
}

// statementOf reads user data.
func statementOf(data []byte) (statement, error) {
	c, err := claims.Decode(data)
	if err != nil {
		return statement{}, err
	}
	s := statement{Claims: c}
	if c.Key == "" || strings.HasPrefix(c.Key, "sha256:") {
		return s, nil
	}
	raw, err := base64.StdEncoding.DecodeString(c.Key)
	if err != nil {
		return statement{}, fmt.Errorf("the document's public key is not base64: %w", err)
	}
	typ, err := pubkey.ParseType(c.KeyType)
	if err == nil {
		s.key, err = pubkey.New(typ, raw)
	}
	if err != nil {
		return statement{}, err
	}
	return s, nil
}

// compare checks what is expected against what a document says of a key.
func (s statement) compare(chainID, publicKey string) (m sgx.Mismatches) {
	if chainID != "" && s.Chain != chainID {
		m = append(m, sgx.Mismatch{Field: "chain id", Got: s.Chain, Want: chainID})
	}
	if publicKey != "" && !s.hasKey(publicKey) {
		m = append(m, sgx.Mismatch{Field: "public key", Got: s.Claims.Key, Want: publicKey})
	}
	return m
}

// hasKey reports whether it is about the public key in text.
func (s statement) hasKey(text string) bool {
	if !s.key.IsZero() {
		return keytext.Names(text, s.key)
	}
	if key, err := keytext.Parse(text); err == nil {
		return s.Claims.Key == claims.EncodeKey(key.Bytes()) && s.KeyType == string(key.Type())
	}
	return s.Claims.Key != "" && s.Claims.Key == text
}
