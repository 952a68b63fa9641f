package seal

import (
	"bytes"
	"encoding/json"
	"testing"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// A sealed key comes over the network, or by somebody's hand: what is accepted, is
// written in the same bytes, and asks for one thing.
func FuzzSealedKey(f *testing.F) {
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	public := json.RawMessage(key.PublicKey().JSON())
	for _, s := range []Key{
		{Format: format, Version: version, ChainID: "chain-1", PublicKey: public, Height: 7, Step: "prevote", Sealed: []byte{1}},
		{Format: format, Version: version, ChainID: "chain-1", PublicKey: public, Fresh: true, Step: "none"},
		{Format: format, Version: 2},
	} {
		data, err := s.encode()
		if err != nil {
			f.Fatal(err)
		}
		if _, _, err := decode(data); (err == nil) != (s.Version == version) {
			f.Errorf("%s: %v", data, err)
		}
		f.Add(data)
		f.Add(bytes.Replace(data, []byte(`"round": 0`), []byte(`"round": 0, "round": 1`), 1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, imp, err := decode(data)
		if err != nil {
			if imp != nil {
				t.Fatal("an error and a request")
			}
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("read %q, wrote %q, %v", data, again, err)
		}
		if imp.ChainID != s.ChainID || imp.Height != s.Height || len(imp.KMS) > 0 {
			t.Fatalf("%q asks for %+v", data, imp)
		}
	})
}
