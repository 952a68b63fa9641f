package wrapped

import (
	"strings"
	"testing"

	"privyseal/internal/key/nitrokms"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/pubkey"
)

// What an enclave will not sign for is known before it is launched, with what mends it.
func TestDisallowed(t *testing.T) {
	const other = "arn:aws:kms:eu-central-1:111122223333:key/99999999-1111-2222-3333-444444444444"
	header := func(change func(h *nitrokms.Header)) *Key {
		h := nitrokms.Header{KeyARN: nitrotest.KeyARN, ChainID: "chain-1", KeyType: string(pubkey.Ed25519), Public: make([]byte, 32)}
		if change != nil {
			change(&h)
		}
		return &Key{Header: h}
	}
	elsewhere := func(h *nitrokms.Header) { h.KeyARN = other }
	for _, c := range []struct {
		name          string
		key, identity *Key
		chains, keys  []string
		why, cure     string
	}{
		{name: "all", key: header(nil)},
		{name: "with an identity", key: header(nil), identity: header(nil)},
		{name: "by name", key: header(nil), chains: []string{"chain-0", "chain-1"}, keys: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
		{name: "under another KMS key", key: header(elsewhere), why: "the key of chain chain-1 is wrapped under " + other, cure: "image-policy --kms-key " + other},
		{name: "an identity under another KMS key", key: header(nil), identity: header(elsewhere), why: "the identity of chain chain-1 is wrapped under " + other, cure: "image-policy --kms-key " + other},
		{name: "a type whose time to sign shows", key: header(func(h *nitrokms.Header) { h.KeyType = string(pubkey.Secp256k1) }), why: "is of type secp256k1", cure: "an ed25519 key"},
		{name: "another chain", key: header(nil), chains: []string{"chain-0"}, why: "does not name chain chain-1", cure: "image-policy --chain chain-1"},
		{name: "another key", key: header(nil), keys: []string{"another"}, why: "does not name the public key of chain chain-1", cure: "image-policy --public-key AAAA"},
	} {
		p := nitrotest.ProductionPolicy(t)
		p.Chains, p.PublicKeys = c.chains, c.keys
		why, cure := Disallowed(p, "chain-1", c.key, c.identity)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) || (cure == "") != (why == "") {
			t.Errorf("%s: %q, %q", c.name, why, cure)
		}
	}
}
