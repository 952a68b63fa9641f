package pubkey

import "math/big"

// isEdwardsPoint reports whether the 32 bytes b decode to a point of
// edwards25519 (RFC 8032, 5.1.3), in the one form that encodes it. Public keys
// are no secret and are read once, so big integers are good enough.
func isEdwardsPoint(b []byte) bool {
	// p = 2²⁵⁵ - 19, d = -121665/121666
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665)).Mod(d, p)

	var bigEndian [32]byte
	for i := range b {
		bigEndian[31-i] = b[i]
	}
	negative := bigEndian[0]&0x80 != 0
	bigEndian[0] &= 0x7f
	y := new(big.Int).SetBytes(bigEndian[:])
	if y.Cmp(p) >= 0 {
		return false
	}

	// x² = (y² - 1) / (d·y² + 1); the divisor is never zero.
	yy := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(yy, big.NewInt(1))
	v := yy.Mul(yy, d)
	v.Add(v, big.NewInt(1)).ModInverse(v, p)
	xx := u.Mul(u, v).Mod(u, p)
	if xx.Sign() == 0 {
		return !negative
	}
	return new(big.Int).ModSqrt(xx, p) != nil
}
