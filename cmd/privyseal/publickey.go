package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"privyseal/internal/pubkey"
)

// parsePublicKey reads a public key that an operator types: the JSON of
// genesis.json, or base64 or hex, where the length tells the type.
func parsePublicKey(text string) (pubkey.Key, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		return pubkey.ParseJSON([]byte(text))
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		if raw, err = base64.StdEncoding.DecodeString(text); err != nil {
			return pubkey.Key{}, errors.New("it is none: JSON as in genesis.json, base64 or hex")
		}
	}
	for _, t := range pubkey.Types() {
		if len(raw) == t.Size() {
			return pubkey.New(t, raw)
		}
	}
	return pubkey.Key{}, errors.New("no type of key has that length")
}

// isPublicKey reports whether text is a public key in any of its forms, bech32
// with any prefix and the address among them.
func isPublicKey(key pubkey.Key, text string) bool {
	text = strings.TrimSpace(text)
	if other, err := parsePublicKey(text); err == nil && other.Equal(key) {
		return true
	}
	for _, format := range pubkey.Formats() {
		prefix := ""
		if format == "bech32" {
			prefix = text[:max(strings.LastIndexByte(text, '1'), 0)]
		}
		if printed, err := key.Format(format, prefix); err == nil && strings.EqualFold(printed, text) && (format == "address" || printed == text) {
			return true
		}
	}
	return false
}
