package statement

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/claims"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/watermark"
)

// raw is a public key.
var raw = bytes.Repeat([]byte{0x66}, 32)

func encoded(t *testing.T, c claims.Claims) []byte {
	t.Helper()
	data, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(t *testing.T, c claims.Claims) Statement {
	t.Helper()
	s, err := Read(encoded(t, c))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What is expected is compared with what the document says, and what is not expected with
// nothing. A key is the same in each format, and by its hash.
func TestCompare(t *testing.T) {
	key, err := pubkey.New(pubkey.Ed25519, raw)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pubkey.New(pubkey.Ed25519, bytes.Repeat([]byte{0x67}, 32))
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte{0x66}, 1952) // of ML-DSA: only its hash has room
	mldsa, err := pubkey.New(pubkey.MLDSA65, long)
	if err != nil {
		t.Fatal(err)
	}
	another, err := pubkey.New(pubkey.MLDSA65, bytes.Repeat([]byte{0x67}, 1952))
	if err != nil {
		t.Fatal(err)
	}
	text := func(key pubkey.Key) string {
		s, err := (keytext.Form{Format: keytext.Formats()[0]}).Text(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	said := read(t, claims.Claims{Purpose: claims.PurposeAttest, Chain: "chain-1", KeyType: "ed25519", Key: claims.EncodeKey(raw)})
	hashed := read(t, claims.Claims{Purpose: claims.PurposeAttest, Chain: "chain-1", KeyType: string(pubkey.MLDSA65), Key: claims.EncodeKey(long)})
	if said.PublicKey.IsZero() || !hashed.PublicKey.IsZero() {
		t.Fatalf("keys %v, %v", said.PublicKey, hashed.PublicKey)
	}
	for name, c := range map[string]struct {
		s          Statement
		chain, key string
		want       string
	}{
		"nothing":                {said, "", "", ""},
		"all":                    {said, "chain-1", text(key), ""},
		"another chain":          {said, "chain-2", text(key), "chain id"},
		"another key":            {said, "chain-1", text(other), "public key"},
		"both":                   {said, "chain-2", text(other), "chain id, public key"},
		"base64":                 {said, "", claims.EncodeKey(raw), ""},
		"by its hash":            {hashed, "", text(mldsa), ""},
		"the hash itself":        {hashed, "", claims.EncodeKey(long), ""},
		"another key by hash":    {hashed, "", text(another), "public key"},
		"another type by hash":   {hashed, "", text(key), "public key"},
		"a document without one": {read(t, claims.Claims{Purpose: claims.PurposeImport}), "chain-1", text(key), "chain id, public key"},
		"none at all":            {Statement{}, "chain-1", "x", "chain id, public key"},
	} {
		var fields []string
		c.s.Compare(c.chain, c.key, func(field, _, _ string) { fields = append(fields, field) })
		if got := strings.Join(fields, ", "); got != c.want {
			t.Errorf("%s: %q differ", name, got)
		}
	}
}

// What is not a statement is none: nothing of it is left over for a report.
func TestRead(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing":           nil,
		"not ours":          []byte(`{"pubkey":"x"}`),
		"not base64":        encoded(t, claims.Claims{Purpose: claims.PurposeAttest, KeyType: "ed25519", Key: "%%"}),
		"a key of no type":  encoded(t, claims.Claims{Purpose: claims.PurposeAttest, KeyType: "rot13", Key: claims.EncodeKey(raw)}),
		"a key that is cut": encoded(t, claims.Claims{Purpose: claims.PurposeAttest, KeyType: "ed25519", Key: claims.EncodeKey(raw[1:])}),
	} {
		if s, err := Read(data); err == nil || s != (Statement{}) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestSigned(t *testing.T) {
	for want, c := range map[string]claims.Claims{
		"": {},
		"it had signed nothing yet, record 1, in boot b": {Mark: (watermark.Mark{}).String(), Seq: 1, Boot: "b"},
		"it had signed up to 7/0/2, record 3, in boot b": {Mark: "7/0/2", Seq: 3, Boot: "b"},
	} {
		if got := (Statement{Claims: c}).Signed(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestLines(t *testing.T) {
	var lines []string
	line := Line(func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) })
	line.Fields([2]string{"purpose", "attest"}, [2]string{"chain", ""}, [2]string{"backups for", "x"})
	line.Key(Statement{})
	line.Key(Statement{Claims: claims.Claims{Key: "sha256:00"}})
	line.Key(read(t, claims.Claims{Purpose: claims.PurposeAttest, KeyType: "ed25519", Key: claims.EncodeKey(raw)}))
	line.Proof([]string{"this"}, []string{"that"})
	if want := []string{"purpose     attest", "backups for x", "public key  sha256:00", "public key"}; !slices.Equal(lines[:4], want) {
		t.Errorf("%q", lines[:4])
	}
	if text := strings.Join(lines[4:], "\n"); !strings.Contains(text, claims.EncodeKey(raw)) || !strings.HasSuffix(text, "\n\nit proves:\n  + this\nit does not prove:\n  - that") {
		t.Errorf("%s", text)
	}
}
