package keytext

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/bech32"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// vectors are the keys that CometBFT itself made, see test/vectors/keys.
func vectors(t testing.TB) (keys []pubkey.Key) {
	t.Helper()
	text, err := os.ReadFile("../testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		json, found := strings.CutPrefix(line, "json ")
		if !found {
			continue
		}
		k, err := pubkey.ParseJSON([]byte(json))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if len(keys) != 16 {
		t.Fatalf("testdata/keys.txt has %d keys, not 16", len(keys))
	}
	return keys
}

func key(t *testing.T, typ pubkey.Type, digits string) pubkey.Key {
	t.Helper()
	raw, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pubkey.New(typ, raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The published vectors: RFC 8032 test 1 for pubkey.Ed25519, and account 0 of the
// Ethereum development tools for secp256k1eth.
func TestPublishedVectors(t *testing.T) {
	rfc := key(t, pubkey.Ed25519, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
	eth := key(t, pubkey.Secp256k1Eth, "038318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed75")
	secp := key(t, pubkey.Secp256k1, "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
	tests := []struct {
		key                  pubkey.Key
		format, prefix, want string
	}{
		{rfc, "base64", "", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},
		{rfc, "hex", "", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},
		{rfc, "address", "", "21FE31DFA154A261626BF854046FD2271B7BED4B"},
		{rfc, "json", "", `{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`},
		{rfc, "cosmos-json", "", `{"@type":"/cosmos.crypto.ed25519.PubKey","key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`},
		{rfc, "bech32", "", "cosmosvalconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydq22knlp"},
		{rfc, "bech32", "crocnclconspub", "crocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqrwtmsk"},
		{secp, "cosmos-json", "", `{"@type":"/cosmos.crypto.secp256k1.PubKey","key":"Anm+Zn753LusVaBilc6HCwcCm/zbLc4o2VnygVsW+BeY"}`},
		{secp, "address", "", "751E76E8199196D454941C45D1B3A323F1433BD6"},
		{rfc, "node-id", "", "21fe31dfa154a261626bf854046fd2271b7bed4b"},
		{rfc, "peer-id", "", "12D3KooWQK1wnefoLrcVHbbnf5tLzbopUd3K3bFAoJpA7YJgL5pV"},
		{eth, "address", "", "F39FD6E51AAD88F6F4CE6AB8827279CFFFB92266"},
	}
	for _, tt := range tests {
		got, err := (Form{tt.format, tt.prefix}).Text(tt.key)
		if err != nil || got != tt.want {
			t.Errorf("as %q, %q: %s, %v\nwant %s", tt.format, tt.prefix, got, err, tt.want)
		}
		if !slices.Contains(Formats(), tt.format) || tt.format == "address" {
			continue
		}
		if read, err := Parse("  " + tt.want + "\n"); err != nil || !read.Equal(tt.key) {
			t.Errorf("Parse(%s) = %v, %v, want %v", tt.want, read, err, tt.key)
		}
	}
}

// Whatever we print, we read. Nothing follows from an address, and 33 bytes
// alone are a key of type secp256k1.
func TestParseWhatIsWritten(t *testing.T) {
	for _, k := range vectors(t) {
		for _, format := range Formats() {
			text, err := (Form{format, ""}).Text(k)
			if err != nil {
				continue // the type has no such format
			}
			got, err := Parse(text)
			switch {
			case format == "address":
				if err == nil {
					t.Errorf("the address %s is read as %v", text, got)
				}
			case err != nil:
				t.Errorf("Parse(%s): %v", text, err)
			case k.Type() == pubkey.Secp256k1Eth && format != "json":
				if got.Type() != pubkey.Secp256k1 {
					t.Errorf("Parse(%s) = %v", text, got)
				}
			case !got.Equal(k):
				t.Errorf("Parse(%s) = %v, want %v", text, got, k)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const good = "crocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqrwtmsk"
	raw := key(t, pubkey.Ed25519, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").Bytes()
	bech := func(hrp string, parts ...[]byte) string {
		text, err := bech32.Encode(hrp, bytes.Join(parts, nil))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	tests := []struct{ name, text, want string }{
		{"nothing", "", "it is not a public key: JSON as in genesis.json"},
		{"a word", "garbage", "it is not a public key"},
		{"an address", "21FE31DFA154A261626BF854046FD2271B7BED4B", "no type of public key has"},
		{"31 bytes in hex", hex.EncodeToString(raw[:31]), "no type of public key has"},
		{"a space within", good[:20] + " " + good[20:], "not a character of bech32"},
		{"a line end within base64", "11qYAYKxCrfVS/7TyWQHOg7h\ncvPapiMlrwIaaPcHURo=", "it is not a public key"},
		{"bits after base64", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURp=", "it is not a public key"},
		{"one character changed", strings.Replace(good, "6adfs", "6adfx", 1), "checksum"},
		{"two characters swapped", strings.Replace(good, "6adfs", "6afds", 1), "checksum"},
		{"another prefix", "t" + good, "checksum"},
		{"the last character missing", good[:len(good)-1], "checksum"},
		{"a character more", good + "q", "checksum"},
		{"capitals", strings.ToUpper(good), "lower case"},
		{"mixed case", strings.Replace(good, "zcjd", "zcJd", 1), "'J' is not a character"},
		{"no prefix of amino", bech("cosmosvalconspub", raw), "not a public key of type"},
		{"an address in bech32", bech("cosmosvalcons", raw[:20]), "an address cannot stand for the key"},
		{"a key of sr25519", bech("cosmosvalconspub", []byte{0x0d, 0xfb, 0x10, 0x05, 32}, raw), "not a public key of type"},
		{"31 bytes", bech("cosmosvalconspub", []byte{0x16, 0x24, 0xde, 0x64, 32}, raw[:31]), "has 32 bytes, not 31"},
		{"33 bytes", bech("cosmosvalconspub", []byte{0x16, 0x24, 0xde, 0x64, 32}, raw, []byte{0}), "has 32 bytes, not 33"},
		{"secp256k1 with the length of ed25519", bech("cosmosvalconspub", []byte{0xeb, 0x5a, 0xe9, 0x87, 32}, raw), "not a public key of type"},
		{"off the curve", bech("cosmosvalconspub", []byte{0x16, 0x24, 0xde, 0x64, 32, 2}, make([]byte, 31)), "not a point"},
		{"short JSON of the SDK", `{"@type":"/cosmos.crypto.ed25519.PubKey","key":"AAAA"}`, "has 32 bytes, not 3"},
		{"both kinds of JSON", `{"@type":"/cosmos.crypto.ed25519.PubKey","key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","type":"tendermint/PubKeyEd25519"}`, "do not belong"},
		{"bls of the SDK", `{"@type":"/cosmos.crypto.bls12_381.PubKey","key":""}`, "bls12_381 is not supported"},
		{"another type of the SDK", `{"@type":"/cosmos.crypto.multisig.LegacyAminoPubKey","key":""}`, "unknown type"},
	}
	for _, tt := range tests {
		if k, err := Parse(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Parse(%q) = %v, %v, want an error with %q", tt.name, tt.text, k, err, tt.want)
		}
	}
}

func TestTextRefuses(t *testing.T) {
	byType := map[pubkey.Type]pubkey.Key{}
	for _, k := range vectors(t) {
		byType[k.Type()] = k
	}
	tests := []struct {
		key            pubkey.Key
		format, prefix string
		want           string
	}{
		{byType[pubkey.Ed25519], "pem", "", `--format "pem" is not one of base64, bech32, hex, json, cosmos-json, address`},
		{byType[pubkey.Ed25519], "", "", `--format "" is not one of `},
		{byType[pubkey.Ed25519], "hex", "cosmosvalconspub", "--prefix goes with --format bech32 only"},
		{byType[pubkey.Ed25519], "bech32", "Cosmos", "letters in lower case"},
		{byType[pubkey.Ed25519], "bech32", "cos mos", "visible ASCII"},
		{byType[pubkey.Ed25519], "bech32", strings.Repeat("x", 84), "1 to 83 characters"},
		{byType[pubkey.Secp256k1Eth], "bech32", "", "keys of type secp256k1eth have no bech32 form"},
		{byType[pubkey.MLDSA65], "bech32", "", "keys of type ml_dsa_65 have no bech32 form"},
		{byType[pubkey.Secp256k1Eth], "cosmos-json", "", "the Cosmos SDK has no form for keys of type secp256k1eth"},
		{byType[pubkey.Secp256k1], "peer-id", "", "only an ed25519 key has a peer id"},
		{pubkey.Key{}, "hex", "", "an empty public key"},
	}
	for _, tt := range tests {
		got, err := (Form{tt.format, tt.prefix}).Text(tt.key)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v as %q, %q is %q, %v\nwant an error with %q", tt.key, tt.format, tt.prefix, got, err, tt.want)
		}
	}
	for _, typ := range pubkey.Types() {
		for _, format := range []string{"base64", "hex", "json", "address"} {
			if _, err := (Form{Format: format}).Text(byType[typ]); err != nil {
				t.Errorf("%s has no format %s: %v", typ, format, err)
			}
		}
	}
}

// What a form lacks is said before there is a key.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		form Form
		more []string
		want string
	}{
		{Form{"json", ""}, nil, ""},
		{Form{"bech32", "cosmosvalconspub"}, nil, ""},
		{Form{"json", "cosmosvalconspub"}, nil, "--prefix goes with --format bech32 only"},
		{Form{"node-id", ""}, nil, `--format "node-id" is not one of `},
		{Form{"node-id", ""}, IdentityFormats(), ""},
	} {
		err := tt.form.Check(tt.more...)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: %v, want %q", tt.form, err, tt.want)
		}
	}
}

// A public key is recognised in every form in which we print one.
func TestNames(t *testing.T) {
	for _, typ := range pubkey.Types() {
		key, err := soft.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		other, err := soft.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range Formats() {
			for _, prefix := range []string{"", "crocnclconspub"} {
				text, err := (Form{format, prefix}).Text(key.PublicKey())
				if err != nil {
					continue // that type has no such format
				}
				if !Names(text, key.PublicKey()) || !Names(text+"\n", key.PublicKey()) {
					t.Errorf("%s: %s is not recognised", typ, text)
				}
				if Names(text, other.PublicKey()) {
					t.Errorf("%s: %s is recognised as another key", typ, text)
				}
			}
		}
	}
	for _, text := range []string{"", "1", "x", "{}", "cosmosvalconspub1"} {
		key, err := soft.Generate(pubkey.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		if Names(text, key.PublicKey()) {
			t.Errorf("%q is a public key", text)
		}
	}
}

func checkKey(t *testing.T, k pubkey.Key) {
	t.Helper()
	for _, format := range Formats() {
		text, err := (Form{format, ""}).Text(k)
		if err == nil && (text == "" || strings.ContainsAny(text, "\r\n")) {
			t.Fatalf("as %s it is %q", format, text)
		}
	}
}

// FuzzParse: what is accepted is what Text writes, but for white space around it and in
// JSON, and capitals in hex.
func FuzzParse(f *testing.F) {
	for _, k := range vectors(f) {
		for _, format := range Formats() {
			if text, err := (Form{format, ""}).Text(k); err == nil {
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
		text = strings.TrimSpace(text)
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(text)) == nil && text[0] == '{' {
			text = compact.String()
		}
		prefix := text[:max(strings.LastIndexByte(text, '1'), 0)]
		for _, format := range Formats() {
			if format == "bech32" {
				if again, err := (Form{format, prefix}).Text(k); err == nil && again == text {
					return
				}
				continue
			}
			again, err := (Form{format, ""}).Text(k)
			if err == nil && (again == text || format == "hex" && strings.EqualFold(again, text)) {
				return
			}
		}
		t.Fatalf("%q was read as %v, which is never written so", text, k)
	})
}
