package kwp

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of RFC 5649, 6, and the one that tmkms-light has in its sources.
func TestVectors(t *testing.T) {
	for name, v := range map[string]struct{ kek, key, wrapped string }{
		"20 bytes": {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		"7 bytes":  {"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
		"tmkms-light": {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
			"4a8029243027353b0694cf1bd8fc745bb0ce8a739b19b1960b12426d4c39cfeda926d103ab34e9f6"},
	} {
		kek, key, wrapped := unhex(t, v.kek), unhex(t, v.key), unhex(t, v.wrapped)
		got, err := Wrap(kek, key)
		if err != nil || !bytes.Equal(got, wrapped) {
			t.Errorf("%s: wrapped to %x, %v", name, got, err)
		}
		if got, err = Unwrap(kek, wrapped); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: unwrapped to %x, %v", name, got, err)
		}
	}
}

// Keys of all sizes come back, and a bit that is changed in one is noticed.
func TestSizes(t *testing.T) {
	kek := make([]byte, 32)
	rand.Read(kek)
	for size := 1; size <= 72; size++ {
		key := make([]byte, size)
		rand.Read(key)
		wrapped, err := Wrap(kek, key)
		if err != nil || len(wrapped) != (size+7)/8*8+8 {
			t.Fatalf("%d: %d bytes, %v", size, len(wrapped), err)
		}
		got, err := Unwrap(kek, wrapped)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%d: %x, %v", size, got, err)
		}
		for i := range wrapped {
			wrapped[i] ^= 1 << (i % 8)
			if got, err := Unwrap(kek, wrapped); err == nil {
				t.Errorf("%d, byte %d changed: %x", size, i, got)
			}
			wrapped[i] ^= 1 << (i % 8)
		}
	}
}

func TestRefused(t *testing.T) {
	kek := make([]byte, 32)
	for _, size := range []int{0, MaxSize + 1} {
		if _, err := Wrap(kek, make([]byte, size)); err == nil {
			t.Errorf("wrapped a key of %d bytes", size)
		}
	}
	for _, size := range []int{0, 8, 15, 17, 23, MaxSize + 16} {
		if _, err := Unwrap(kek, make([]byte, size)); err != errOpen {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := Wrap(kek[:31], kek); err == nil {
		t.Error("wrapped under 31 bytes")
	}
	if _, err := Unwrap(kek[:31], kek); err == nil {
		t.Error("unwrapped under 31 bytes")
	}
	longest, err := Wrap(kek, make([]byte, MaxSize))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unwrap(kek, longest); err != nil || len(got) != MaxSize {
		t.Errorf("the longest: %d bytes, %v", len(got), err)
	}
}

// form encrypts what is no padded key, but in the form of one.
func form(t *testing.T, kek []byte, first uint32, n uint32, rest ...byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint32(nil, first)
	b = append(binary.BigEndian.AppendUint32(b, n), rest...)
	if len(b) == 16 {
		block.Encrypt(b, b)
	} else {
		wrap(block, b)
	}
	return b
}

// What holds of an initial value, RFC 5649, 3, holds one by one.
func TestForms(t *testing.T) {
	kek := make([]byte, 16)
	eight, sixteen := make([]byte, 8), make([]byte, 16)
	set := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] = 1
		return b
	}
	for name, c := range map[string]struct {
		wrapped []byte
		ok      bool
	}{
		"8 of 8":                          {form(t, kek, magic, 8, eight...), true},
		"1 of 8":                          {form(t, kek, magic, 1, eight...), true},
		"0 of 8":                          {form(t, kek, magic, 0, eight...), false},
		"9 of 8":                          {form(t, kek, magic, 9, eight...), false},
		"9 of 16":                         {form(t, kek, magic, 9, sixteen...), true},
		"8 of 16":                         {form(t, kek, magic, 8, sixteen...), false},
		"17 of 16":                        {form(t, kek, magic, 17, sixteen...), false},
		"a length of the highest bit":     {form(t, kek, magic, 1<<31|8, eight...), false},
		"a length of all bits":            {form(t, kek, magic, 1<<32-1, eight...), false},
		"the value of RFC 3394":           {form(t, kek, 0xa6a6a6a6, 8, eight...), false},
		"a padding of 7 with a bit early": {form(t, kek, magic, 1, set(eight, 1)...), false},
		"a padding of 7 with a bit late":  {form(t, kek, magic, 1, set(eight, 7)...), false},
		"a key of 1 with a bit":           {form(t, kek, magic, 1, set(eight, 0)...), true},
		"a padding of 1 with a bit":       {form(t, kek, magic, 15, set(sixteen, 15)...), false},
		"the last byte of a key":          {form(t, kek, magic, 15, set(sixteen, 14)...), true},
	} {
		if _, err := Unwrap(kek, c.wrapped); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What unwraps is what wraps to it.
func FuzzUnwrap(f *testing.F) {
	f.Add(make([]byte, 32), []byte("a key"), false)
	f.Add(make([]byte, 16), make([]byte, 16), true)
	f.Fuzz(func(t *testing.T, kek, b []byte, raw bool) {
		wrapped := b
		if !raw {
			var err error
			if wrapped, err = Wrap(kek, b); err != nil {
				return
			}
		}
		key, err := Unwrap(kek, wrapped)
		if err != nil {
			if !raw {
				t.Fatalf("%x under %x: %v", b, kek, err)
			}
			return
		}
		if again, err := Wrap(kek, key); err != nil || !bytes.Equal(again, wrapped) {
			t.Fatalf("%x became %x, %v", wrapped, again, err)
		}
	})
}
