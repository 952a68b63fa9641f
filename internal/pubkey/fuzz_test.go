package pubkey

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzParseJSON: what is accepted is, white space aside, what JSON writes.
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
		if again := k.JSON(); again != compact.String() {
			t.Fatalf("%s was read, and written as %s", text, again)
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
	if text := k.JSON(); text == "" || strings.ContainsAny(text, "\r\n") {
		t.Fatalf("JSON() = %q", text)
	}
	_, _ = k.ID(), k.Address()
}
