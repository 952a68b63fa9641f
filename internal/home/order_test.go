package home

import (
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// A key that is not the one that was asked for is refused, whatever the provider does.
func TestTheKeyThatWasAskedFor(t *testing.T) {
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	x := provider.Entry{Name: "x", Types: []pubkey.Type{pubkey.Ed25519, pubkey.Secp256k1}}
	other, err := soft.Generate(pubkey.MLDSA65)
	if err != nil {
		t.Fatal(err)
	}
	made := Chain{Public: key.PublicKey()}
	imported := Chain{Public: key.PublicKey(), Chain: config.Chain{ImportedFrom: []string{"/old"}}}
	for name, tt := range map[string]struct {
		order Order
		chain Chain
		want  string // of the error, "" for none
	}{
		"any":                      {Order{}, made, ""},
		"of its type":              {Order{KeyType: "ed25519"}, made, ""},
		"of another type":          {Order{KeyType: "secp256k1"}, made, "--key-type secp256k1: provider x makes ed25519 keys"},
		"not known yet":            {Order{KeyType: "secp256k1"}, Chain{}, ""},
		"imported":                 {Order{ImportKey: "old"}, imported, ""},
		"made instead of imported": {Order{ImportKey: "old"}, made, "--import-key: provider x imports no keys"},
		"of a type that it lacks":  {Order{}, Chain{Public: other.PublicKey()}, "provider x has no ml_dsa_65 keys; it has ed25519 or secp256k1"},
		"to be made instead":       {Order{ImportKey: "old"}, Chain{}, "--import-key: provider x imports no keys"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.order.Form.Format = "json"
			err := tt.order.fits(x, &tt.chain)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
