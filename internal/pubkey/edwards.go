package pubkey

import (
	"bytes"

	"filippo.io/edwards25519"
)

// isEdwardsPoint reports whether b decodes to a point of edwards25519 (RFC 8032,
// 5.1.3), in the one form that encodes it.
func isEdwardsPoint(b []byte) bool {
	p, err := new(edwards25519.Point).SetBytes(b)
	return err == nil && bytes.Equal(p.Bytes(), b)
}
