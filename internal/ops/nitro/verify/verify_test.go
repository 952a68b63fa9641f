package verify

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/eif"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/nitro"
	"privyseal/internal/ops/nitro/nitrotest"
	"privyseal/internal/policy"
)

// testDocument returns a document with these user data, verified below a test
// root.
func testDocument(t *testing.T, userData []byte) *Verified {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := nitrotest.NewAuthority(root, "test.nitro-enclaves"); err != nil {
		t.Fatal(err)
	}
	module, err := nitrotest.NewModule(root, eif.Measurements{PCR0: eif.PCR{1}, PCR1: eif.PCR{2}, PCR2: eif.PCR{3}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := module.Attest(userData, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(root + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := nitro.ParseAnchor(pem)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := nitro.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Verify(anchor, time.Now()); err != nil {
		t.Fatal(err)
	}
	v := &Verified{Doc: doc, Expectation: Expectation{Anchor: anchor, named: true}}
	if v.Statement, err = statementOf(doc); err != nil {
		t.Fatal(err)
	}
	return v
}

func reported(t *testing.T, v *Verified) string {
	t.Helper()
	var b bytes.Buffer
	if err := v.report(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A document of tmkms-light's key generation is read, and not taken for ours.
func TestVerifyLight(t *testing.T) {
	public := make([]byte, 32)
	public[0] = 1
	b64 := base64.StdEncoding.EncodeToString
	v := testDocument(t, fmt.Appendf(nil, `{"pubkey":%q,"key_id":%q}`, b64(public), b64([]byte("alias/validator"))))
	text := reported(t, v)
	for _, want := range []string{
		"purpose     key generation of tmkms-light", "KMS key     alias/validator", "  base64      " + b64(public),
		"  + an enclave of the expected image said that it made the key above", "tmkms-light's state is its host's word",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "origin") {
		t.Errorf("it has an origin:\n%s", text)
	}
	for _, tt := range []struct {
		flags  Flags
		public string
		bad    int
	}{
		{Flags{kmsKey: "alias/validator"}, b64(public), 0},
		{Flags{}, b64(make([]byte, 32)), 1},
		{Flags{chainID: "chain-1", kmsKey: "alias/other"}, "", 2},
	} {
		if m := tt.flags.compare(v.Statement, tt.public); len(m) != tt.bad {
			t.Errorf("%+v: %v", tt.flags, m)
		}
	}
}

// What a document proves depends on what it is for, and where the key is from.
func TestVerifyPurposes(t *testing.T) {
	boot := strings.Repeat("0f", 16)
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, tt := range map[string]struct {
		claims      claims.Claims
		want, never string
	}{
		"kms":       {claims.Claims{Purpose: claims.PurposeKMS, Boot: boot}, "for KMS to encrypt to", "the key above"},
		"import":    {claims.Claims{Purpose: claims.PurposeImport, Boot: boot}, "sealing a key to be imported", "the key above"},
		"generated": {claims.Claims{Purpose: claims.PurposeAttest, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "9/0/prevote"}, "it had signed up to 9/0/prevote, record 5, in boot " + boot, "+ the key was made inside"},
		"created":   {claims.Claims{Purpose: claims.PurposeCreate, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "0/0/none"}, "+ the key was made inside that enclave", "its wrapped form says so"},
		"new state": {claims.Claims{Purpose: claims.PurposeState, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "9/all/all"}, "made a new state for the key above", "+ the key was made inside"},
		"imported":  {claims.Claims{Purpose: claims.PurposeCreate, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "imported"}, "copies may exist", "made inside that enclave"},
		"in etcd":   {claims.Claims{Purpose: claims.PurposeAttest, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "9/0/prevote", Store: "AAAAAAAAAAA"}, "+ the mark is in the database that the image's policy names", "that no second enclave runs"},
		"set back":  {claims.Claims{Purpose: claims.PurposeAttest, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "9/0/prevote", Store: "AAAAAAAAAAA"}, "store       a database, AAAAAAAAAAA: ", "+ the key was made inside"},
		"on a host": {claims.Claims{Purpose: claims.PurposeAttest, Boot: boot, Chain: "c", KeyType: "ed25519", Key: key, Origin: "generated", Seq: 5, Mark: "9/0/prevote"}, "- that no second enclave runs with an older state", "etcd"},
		"long":      {claims.Claims{Purpose: claims.PurposeAttest, Boot: boot, Chain: "c", KeyType: "ml_dsa_65", Key: claims.EncodeKey(make([]byte, 1952)), Origin: "generated"}, "public key  sha256:", "bech32"},
	} {
		data, err := tt.claims.Encode()
		if err != nil {
			t.Fatal(err)
		}
		v := testDocument(t, data)
		text := reported(t, v)
		if !strings.Contains(text, tt.want) || strings.Contains(text, tt.never) || !strings.Contains(text, "NOT AWS") {
			t.Errorf("%s:\n%s", name, text)
		}
		if inDatabase := tt.claims.Store != ""; inDatabase != strings.Contains(text, "that nobody put an old mark back") {
			t.Errorf("%s, of any database:\n%s", name, text)
		}
		if tt.claims.Store != "" {
			for want, p := range map[string]*policy.Policy{
				"store       etcd, ":     {Etcd: policy.Etcd{CA: "x"}},
				"store       DynamoDB, ": {DynamoDB: policy.DynamoDB{Table: "x"}},
			} {
				v.Policy = p
				text := reported(t, v)
				if inEtcd := p.Etcd.Named(); !strings.Contains(text, want) || inEtcd != strings.Contains(text, "+ the mark is in the etcd") || inEtcd == strings.Contains(text, "that nobody put an old mark back") {
					t.Errorf("%s, %s:\n%s", name, want, text)
				}
			}
			v.Policy = nil
		}
		// Without an image nothing is said about the key, whatever the document says.
		v.named = false
		if text := reported(t, v); strings.Contains(text, "+ an enclave of the expected image") || strings.Contains(text, "+ the key was made") || strings.Contains(text, "+ the mark is in") {
			t.Errorf("%s, of any image:\n%s", name, text)
		}
	}
}

// A document and the encryption context that a key policy pins name a key in the
// same way.
func TestKeysHaveOneName(t *testing.T) {
	for _, size := range []int{32, 33, 65, 66, 1952} {
		key := bytes.Repeat([]byte{7}, size)
		context := nitrokms.EncryptionContext("", key)
		if !slices.Contains(slices.Collect(maps.Values(context)), claims.EncodeKey(key)) {
			t.Errorf("%d bytes: documents say %s, the context has %v", size, claims.EncodeKey(key), context)
		}
	}
}
