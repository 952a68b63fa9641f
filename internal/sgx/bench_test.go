package sgx

import "testing"

// A quote with all of its collateral, read and verified from nothing.
func BenchmarkVerify(b *testing.B) {
	tt := vectors["SGX, Processor CA"]
	raw, text, at := vector(b, tt.quote), vector(b, tt.bundle), instant(b, tt.at)
	for b.Loop() {
		c, err := ParseCollateral(text)
		if err != nil {
			b.Fatal(err)
		}
		q, err := Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := q.Verify(c, Anchor{}, at); err != nil {
			b.Fatal(err)
		}
	}
}
