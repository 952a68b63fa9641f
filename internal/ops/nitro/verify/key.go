package verify

import (
	"encoding/hex"
	"strings"

	"privyseal/internal/pubkey"
)

// isPublicKey reports whether text is a public key in any of its forms, the
// address among them.
func isPublicKey(key pubkey.Key, text string) bool {
	text = strings.TrimSpace(text)
	if other, err := pubkey.Parse(text); err == nil && other.Equal(key) {
		return true
	}
	// An address, and the bare bytes of a key, which do not show its type.
	for _, format := range []string{"address", "hex", "base64"} {
		printed, err := key.Format(format, "")
		if err == nil && (printed == text || format != "base64" && strings.EqualFold(printed, text)) {
			return true
		}
	}
	return false
}

// checkPublicKeyName finds what is wrong with text as the name of a public key:
// the key itself, its address, or the hash that stands for a long one in an
// attestation.
func checkPublicKeyName(text string) error {
	text = strings.TrimSpace(text)
	_, err := pubkey.Parse(text)
	digits, size := text, 20
	if hash, found := strings.CutPrefix(text, "sha256:"); found {
		digits, size = hash, 32
	}
	if raw, hexErr := hex.DecodeString(digits); hexErr == nil && len(raw) == size {
		return nil
	}
	return err
}
