package nitro

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/enclavefile"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/pubkey"
)

// What an enclave will not sign for is known before it is launched, with what mends it.
func TestDisallowed(t *testing.T) {
	const other = "arn:aws:kms:eu-central-1:111122223333:key/99999999-1111-2222-3333-444444444444"
	header := func(change func(h *enclavefile.Head)) *enclavefile.Key {
		h := enclavefile.Head{Opener: nitrotest.KeyARN, ChainID: "chain-1", KeyType: string(pubkey.Ed25519), Public: make([]byte, 32)}
		if change != nil {
			change(&h)
		}
		return &enclavefile.Key{Head: h}
	}
	elsewhere := func(h *enclavefile.Head) { h.Opener = other }
	for _, c := range []struct {
		name           string
		key, identity  *enclavefile.Key
		chains, public []string
		why, cure      string
	}{
		{name: "all", key: header(nil)},
		{name: "with an identity", key: header(nil), identity: header(nil)},
		{name: "by name", key: header(nil), chains: []string{"chain-0", "chain-1"}, public: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
		{name: "under another KMS key", key: header(elsewhere), why: "the key of chain chain-1 is wrapped under " + other, cure: "image-policy --kms-key " + other},
		{name: "an identity under another KMS key", key: header(nil), identity: header(elsewhere), why: "the identity of chain chain-1 is wrapped under " + other, cure: "image-policy --kms-key " + other},
		{name: "a type whose time to sign shows", key: header(func(h *enclavefile.Head) { h.KeyType = string(pubkey.Secp256k1) }), why: "is of type secp256k1", cure: "an ed25519 key"},
		{name: "another chain", key: header(nil), chains: []string{"chain-0"}, why: "does not name chain chain-1", cure: "image-policy --chain chain-1"},
		{name: "another key", key: header(nil), public: []string{"another"}, why: "does not name the public key of chain chain-1", cure: "image-policy --public-key AAAA"},
	} {
		p := nitrotest.ProductionPolicy(t)
		p.Chains, p.PublicKeys = c.chains, c.public
		why, cure := keyFiles.Disallowed(p, "chain-1", c.key, c.identity)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) || (cure == "") != (why == "") {
			t.Errorf("%s: %q, %q", c.name, why, cure)
		}
	}
}

// A key file that an enclave cannot use says why, with one cure.
func TestReadWrappedRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"":                           "it does not begin as one\nput the file that `privyseal init` named for the backup back",
		"privyseal software key 1\n": "it is of another provider: it begins with \"privyseal software key 1\", not with \"privyseal wrapped key 1\"\ncorrect the provider",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyFiles.Read(path, "chain-1"); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
