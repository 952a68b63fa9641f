package nitro

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/eif"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/nitrotest"
)

// The flags of init that contradict each other are found before anything is launched.
func TestMakerChecksItsFlags(t *testing.T) {
	none := home.Start{}
	fresh := home.Start{Said: home.Said{Fresh: true}}
	from := func(s home.Start, initial int64) home.Start { s.Initial = initial; return s }
	for _, c := range []struct {
		name  string
		maker Maker
		order home.Order
		wrong string
	}{
		{"a new key", Maker{}, home.Order{From: none}, ""},
		{"a sealed key", Maker{importSealed: "f"}, home.Order{From: none}, ""},
		{"a ciphertext", Maker{importKMS: "f", publicKey: "k"}, home.Order{From: fresh}, ""},
		{"a ciphertext from its first height", Maker{importKMS: "f", publicKey: "k"}, home.Order{From: from(fresh, 7)}, ""},
		{"a key file", Maker{}, home.Order{From: none, ImportKey: "f"}, "never bring a key file to an enclave's host"},
		{"both", Maker{importSealed: "f", importKMS: "g"}, home.Order{From: none}, "only one of --import-sealed and --import-kms"},
		{"a sealed key with a state", Maker{importSealed: "f"}, home.Order{From: fresh}, "public key and state are in the sealed file"},
		{"a sealed key with a key", Maker{importSealed: "f", publicKey: "k"}, home.Order{From: none}, "public key and state are in the sealed file"},
		{"a sealed key with a type", Maker{importSealed: "f"}, home.Order{From: none, KeyType: "ed25519"}, "public key and state are in the sealed file"},
		{"a ciphertext without its key", Maker{importKMS: "f"}, home.Order{From: fresh}, "--public-key KEY is missing"},
		{"a ciphertext without a state", Maker{importKMS: "f", publicKey: "k"}, home.Order{From: none, ChainID: "c"}, "an imported key may have signed before"},
		{"a ciphertext with two states", Maker{importKMS: "f", publicKey: "k"}, home.Order{From: home.Start{Said: home.Said{After: 7, Fresh: true}}, ChainID: "c"}, "add one of --import-state"},
		{"a new key from a height", Maker{}, home.Order{From: from(none, 7)}, "--initial-height goes with --import-kms"},
		{"a sealed key from a height", Maker{importSealed: "f"}, home.Order{From: from(none, 7)}, "--initial-height goes with --import-kms"},
		{"a new key with a state", Maker{}, home.Order{From: fresh}, "a new key has signed nothing"},
		{"a new key with a key", Maker{publicKey: "k"}, home.Order{From: none}, "a new key has signed nothing"},
	} {
		err := c.maker.Check(&c.order)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
		if _, usage := errors.AsType[cli.UsageError](err); err != nil && !usage {
			t.Errorf("%s: %v is no wrong usage", c.name, err)
		}
	}
}

// An image is used by those commands alone whose flags agree with its policy.
func TestReadImage(t *testing.T) {
	dir := t.TempDir()
	ours, other := filepath.Join(dir, "ours.eif"), filepath.Join(dir, "other")
	if err := os.WriteFile(ours, nitrotest.Image(t, eif.AMD64, nitrotest.ProductionPolicy(t), "\x7fELF a program").Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		flags      enclaveFlags
		wrong      string
	}{
		{"ours", ours, enclaveFlags{}, ""},
		{"flags that agree", ours, enclaveFlags{kmsKey: nitrotest.KeyARN, region: "eu-central-1"}, ""},
		{"another KMS key", ours, enclaveFlags{kmsKey: "arn"}, "--kms-key arn is not the KMS key that the image's policy names"},
		{"another region", ours, enclaveFlags{region: "us-east-1"}, "--region us-east-1 is not that of the KMS key"},
		{"no image", other, enclaveFlags{Choice: enclavecommand.Choice[Enclave, *Enclave]{Want: Enclave{EIF: other}}}, "--eif: "},
		{"not there", filepath.Join(dir, "none"), enclaveFlags{}, "no such file"},
	} {
		im, p, err := c.flags.readImage(c.path)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) || (im == nil) != (err != nil) || (p == nil) != (err != nil) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
	}
}
