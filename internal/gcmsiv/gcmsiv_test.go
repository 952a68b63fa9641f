package gcmsiv

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Vectors of RFC 8452: C.1 for AES-128, C.2 for AES-256, and the example of A for POLYVAL.
func TestVectors(t *testing.T) {
	const nonce = "030000000000000000000000"
	short, long := "01"+strings.Repeat("00", 15), "01"+strings.Repeat("00", 31)
	for _, v := range []struct{ key, plain, additional, sealed string }{
		{short, "", "", "dc20e2d83f25705bb49e439eca56de25"},
		{short, "0100000000000000", "", "b5d839330ac7b786578782fff6013b815b287c22493a364c"},
		{long, "", "", "07f5f4169bbf55a8400cd47ea6fd400f"},
		{long, "0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"},
	} {
		key, plain, additional, sealed := unhex(t, v.key), unhex(t, v.plain), unhex(t, v.additional), unhex(t, v.sealed)
		got, err := Seal(key, unhex(t, nonce), plain, additional)
		if err != nil || !bytes.Equal(got, sealed) {
			t.Errorf("%s: %x, %v", v.plain, got, err)
		}
		if got, err = Open(key, unhex(t, nonce), sealed, additional); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %x, %v", v.plain, got, err)
		}
	}
	h := elementOf(unhex(t, "25629347589242761d31f826ba4b757b"))
	sum := elementOf(unhex(t, "4f4f95668c83dfb6401762bb2d01a262")).dot(h)
	sum = sum.plus(elementOf(unhex(t, "d1a24ddd2721d006bbe45f20d3c9f362"))).dot(h)
	if want := elementOf(unhex(t, "f7a3b47b846119fae5b7866cf5e5b77e")); sum != want {
		t.Errorf("POLYVAL: %x", sum)
	}
}

// Whatever the sizes, what is sealed opens, and nothing else does.
func TestOpen(t *testing.T) {
	for _, size := range []int{16, 32} {
		key, nonce := make([]byte, size), make([]byte, NonceSize)
		rand.Read(key)
		rand.Read(nonce)
		for n := range 50 {
			plain, additional := make([]byte, n), make([]byte, 49-n)
			rand.Read(plain)
			rand.Read(additional)
			sealed, err := Seal(key, nonce, plain, additional)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Open(key, nonce, sealed, additional); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes: %x, %v", n, got, err)
			}
			for i := range sealed {
				sealed[i] ^= 1 << (i % 8)
				if _, err := Open(key, nonce, sealed, additional); err != errOpen {
					t.Errorf("%d bytes, byte %d changed: %v", n, i, err)
				}
				sealed[i] ^= 1 << (i % 8)
				if _, err := Open(key, nonce, sealed[:i], additional); err != errOpen {
					t.Errorf("the first %d of %d bytes: %v", i, n, err)
				}
			}
			for i := range additional {
				additional[i] ^= 1
				if _, err := Open(key, nonce, sealed, additional); err != errOpen {
					t.Errorf("%d bytes, byte %d beside them changed: %v", n, i, err)
				}
				additional[i] ^= 1
			}
			if _, err := Open(key, nonce, sealed, append(additional, 0)); err != errOpen {
				t.Errorf("%d bytes, with more: %v", n, err)
			}
		}
	}
	if _, err := Open(make([]byte, 24), make([]byte, 12), make([]byte, 16), nil); err == nil {
		t.Error("a key of 24 bytes")
	}
	if _, err := Seal(make([]byte, 32), make([]byte, 11), nil, nil); err == nil {
		t.Error("a nonce of 11 bytes")
	}
	if _, err := Seal(make([]byte, 32), make([]byte, 12), make([]byte, maxSize+1), nil); err == nil {
		t.Error("a megabyte and one")
	}
}
