package pubkey

import (
	"bytes"
	"encoding/json"
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

// FuzzParse: what is accepted is what Format writes, but for white space in JSON
// and capitals in hex.
func FuzzParse(f *testing.F) {
	for _, v := range readVectors(f) {
		k := mustNew(f, v.typ, v.public)
		for _, format := range Formats() {
			if text, err := k.Format(format, ""); err == nil {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse(text)
		if err != nil {
			if !k.IsZero() {
				t.Fatalf("%q was refused, and read as %v", text, k)
			}
			return
		}
		checkKey(t, k)
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(text)) == nil && text[0] == '{' {
			text = compact.String()
		}
		prefix := text[:max(strings.LastIndexByte(text, '1'), 0)]
		for _, format := range Formats() {
			if format == "bech32" {
				if again, err := k.Format(format, prefix); err == nil && again == text {
					return
				}
				continue
			}
			again, err := k.Format(format, "")
			if err == nil && (again == text || format == "hex" && strings.EqualFold(again, text)) {
				return
			}
		}
		t.Fatalf("%q was read as %v, which is never written so", text, k)
	})
}
