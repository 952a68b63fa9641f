package pubkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// FuzzParseJSON: what is accepted is, white space aside, what Format writes.
func FuzzParseJSON(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add([]byte(v.json))
	}
	f.Add([]byte(`{"type":"cometbft/PubKeyBls12_381","value":""}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseJSON(text)
		if err != nil {
			return
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			t.Fatal(err)
		}
		again, err := k.Format("json", "")
		if err != nil || again != compact.String() {
			t.Fatalf("%s was read, and written as %s, %v", text, again, err)
		}
		checkKey(t, k)
	})
}

// FuzzNew: what is accepted keeps its bytes, and no use of it panics.
func FuzzNew(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(string(v.typ), v.public, v.signed[0].message, v.signed[0].signature)
	}
	f.Fuzz(func(t *testing.T, typ string, b, message, sig []byte) {
		k, err := New(Type(typ), b)
		if err != nil {
			return
		}
		if parsed, err := ParseType(typ); err != nil || parsed != k.Type() {
			t.Fatalf("New knows the type %q, ParseType does not: %v", typ, err)
		}
		if !bytes.Equal(k.Bytes(), b) {
			t.Fatalf("%x became %x", b, k.Bytes())
		}
		k.Verify(message, sig)
		checkKey(t, k)
	})
}

func checkKey(t *testing.T, k Key) {
	t.Helper()
	for _, format := range Formats() {
		text, err := k.Format(format, "")
		if err == nil && (text == "" || strings.ContainsAny(text, "\r\n")) {
			t.Fatalf("Format(%s) = %q", format, text)
		}
	}
	_, _ = k.ID(), k.Address()
}

// FuzzBech32: what is written can be read again by the rules of BIP 173.
func FuzzBech32(f *testing.F) {
	f.Add("cosmosvalconspub", []byte{0x16, 0x24, 0xde, 0x64, 0x20})
	f.Add("a", []byte{})
	f.Fuzz(func(t *testing.T, hrp string, data []byte) {
		text, err := bech32(hrp, data)
		if err != nil {
			return
		}
		gotHRP, got, err := readBech32(text)
		if err != nil || gotHRP != hrp || !bytes.Equal(got, data) {
			t.Fatalf("%q and %x became %s, which reads %q and %x, %v", hrp, data, text, gotHRP, got, err)
		}
	})
}

// TestBech32 has the valid strings of BIP 173 that carry whole bytes.
func TestBech32(t *testing.T) {
	for _, want := range []string{
		"a12uel5l",
		"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
		"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
	} {
		hrp, data, err := readBech32(want)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if got, err := bech32(hrp, data); err != nil || got != want {
			t.Errorf("bech32(%q, %x) = %s, %v, want %s", hrp, data, got, err, want)
		}
	}
	for _, bad := range []string{"a12uel5m", "A12UEL5L", "a1lqfn3a", "1nwldj5", "a1b", ""} {
		if hrp, data, err := readBech32(bad); err == nil {
			t.Errorf("%q reads as %q and %x", bad, hrp, data)
		}
	}
}

// readBech32 is bech32 backwards, from the text of BIP 173.
func readBech32(s string) (hrp string, data []byte, err error) {
	cut := strings.LastIndexByte(s, '1')
	if cut < 1 || len(s)-cut < 7 {
		return "", nil, errors.New("no separator, or no checksum")
	}
	var groups []byte
	for _, c := range s[cut+1:] {
		g := strings.IndexRune(bech32Alphabet, c)
		if g < 0 {
			return "", nil, errors.New("a character outside the alphabet")
		}
		groups = append(groups, byte(g))
	}
	groups, sum := groups[:len(groups)-6], groups[len(groups)-6:]
	if !slices.Equal(checksum(s[:cut], groups), sum) {
		return "", nil, errors.New("the checksum is wrong")
	}
	acc, bits := uint(0), 0
	for _, g := range groups {
		acc, bits = acc<<5|uint(g), bits+5
		if bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	if bits >= 5 || acc != 0 {
		return "", nil, errors.New("padding that is not zero")
	}
	return s[:cut], data, nil
}
