package sgx

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/enclavefile"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
)

// A key file that an enclave cannot use says why, with one cure.
func TestReadSealedRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for text, want := range map[string]string{
		"":                           "it does not begin as one\nput the file back in its place if there is a copy",
		"privyseal software key 1\n": "it is of another provider: it begins with \"privyseal software key 1\", not with \"privyseal sealed key 1\"\ncorrect the provider",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyFiles.Read(path, "chain-1"); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := keyFiles.Read(filepath.Join(t.TempDir(), "none"), ""); err == nil || !strings.Contains(err.Error(), "`privyseal sgx recover --identity --help`") {
		t.Errorf("a missing identity: %v", err)
	}
}

// What an enclave will not sign for is known before it is launched, with what mends it.
func TestDisallowed(t *testing.T) {
	key := func(change func(*enclavefile.Head)) *enclavefile.Key {
		h := enclavefile.Head{Opener: policy.SealMRENCLAVE, ChainID: "chain-1", KeyType: string(pubkey.Ed25519), Public: make([]byte, 32)}
		if change != nil {
			change(&h)
		}
		return &enclavefile.Key{Head: h}
	}
	bySigner := func(h *enclavefile.Head) { h.Opener = policy.SealMRSIGNER }
	zeros := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, c := range []struct {
		name           string
		key, identity  *enclavefile.Key
		chains, public []string
		why, cure      string
	}{
		{name: "all", key: key(nil)},
		{name: "with an identity", key: key(nil), identity: key(nil)},
		{name: "by name", key: key(nil), chains: []string{"chain-0", "chain-1"}, public: []string{zeros}},
		{name: "by the signer", key: key(bySigner), why: "the key of chain chain-1 is sealed by mrsigner, and the policy of the enclave says mrenclave", cure: "`privyseal sgx recover --help`"},
		{name: "an identity by the signer", key: key(nil), identity: key(bySigner), why: "the identity of chain chain-1 is sealed by mrsigner", cure: "`privyseal sgx recover --help`"},
		{name: "a type whose time to sign shows", key: key(func(h *enclavefile.Head) { h.KeyType = string(pubkey.Secp256k1) }), why: "is of type secp256k1", cure: "an ed25519 key"},
		{name: "another chain", key: key(nil), chains: []string{"chain-0"}, why: "does not name chain chain-1", cure: "`privyseal sgx policy --chain chain-1 …`"},
		{name: "another key", key: key(nil), public: []string{"another"}, why: "does not name the public key of chain chain-1", cure: "`privyseal sgx policy --public-key " + zeros},
	} {
		p := &policy.Policy{SGX: policy.SGX{Seal: policy.SealMRENCLAVE}, Chains: c.chains, PublicKeys: c.public}
		why, cure := keyFiles.Disallowed(p, "chain-1", c.key, c.identity)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || !strings.Contains(cure, c.cure) || (cure == "") != (why == "") {
			t.Errorf("%s: %q, %q", c.name, why, cure)
		}
	}
}
