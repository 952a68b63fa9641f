package pubkey

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/bech32"
)

// vector is a block of testdata/keys.txt, which CometBFT itself made; see
// test/vectors/keys.
type vector struct {
	typ     Type
	public  []byte
	address string
	json    string
	signed  []signed
}

type signed struct {
	message, signature []byte
	rejects            [][]byte
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for block := range strings.SplitSeq(string(text), "\n\n") {
		if v := readVector(t, block); v.typ != "" {
			vectors = append(vectors, v)
		}
	}
	if len(vectors) != 16 {
		t.Fatalf("testdata/keys.txt has %d keys, not 16", len(vectors))
	}
	return vectors
}

func readVector(t testing.TB, block string) (v vector) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(block))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "type":
			v.typ = Type(value)
		case "public":
			v.public = unhex(t, value)
		case "address":
			v.address = value
		case "json":
			v.json = value
		case "message":
			v.signed = append(v.signed, signed{message: unhex(t, value)})
		case "signature":
			v.signed[len(v.signed)-1].signature = unhex(t, value)
		case "reject":
			s := &v.signed[len(v.signed)-1]
			s.rejects = append(s.rejects, unhex(t, value))
		case "#", "file":
		default:
			t.Fatalf("testdata/keys.txt: unknown line %q", name)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustNew(t testing.TB, typ Type, b []byte) Key {
	t.Helper()
	k, err := New(typ, b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What CometBFT made, we read and verify; what it refuses, we refuse.
func TestGoldenVectors(t *testing.T) {
	for i, v := range readVectors(t) {
		t.Run(fmt.Sprintf("%d-%s", i, v.typ), func(t *testing.T) {
			k := mustNew(t, v.typ, v.public)
			for format, want := range map[string]string{"address": v.address, "json": v.json, "hex": hex.EncodeToString(v.public)} {
				got, err := k.Format(format, "")
				if err != nil || got != want {
					t.Errorf("Format(%s) = %s, %v, want %s", format, got, err, want)
				}
			}
			if got := k.NodeID(); got != strings.ToLower(v.address) {
				t.Errorf("NodeID() = %s, want %s in lower case", got, v.address)
			}
			parsed, err := ParseJSON([]byte(v.json))
			if err != nil || !parsed.Equal(k) {
				t.Errorf("ParseJSON(%s) = %v, %v", v.json, parsed, err)
			}
			if !bytes.Equal(k.Bytes(), v.public) {
				t.Errorf("Bytes() = %x, want %x", k.Bytes(), v.public)
			}
			for _, s := range v.signed {
				if !k.Verify(s.message, s.signature) {
					t.Errorf("the signature %x over %x does not verify", s.signature, s.message)
				}
				if k.Verify(append([]byte("x"), s.message...), s.signature) {
					t.Errorf("the signature %x verifies over another message", s.signature)
				}
				for _, r := range s.rejects {
					if k.Verify(s.message, r) {
						t.Errorf("%x verifies, and CometBFT refuses it", r)
					}
				}
			}
		})
	}
}

// The published vectors: RFC 8032 test 1 for Ed25519, and account 0 of the
// Ethereum development tools for secp256k1eth.
func TestPublishedVectors(t *testing.T) {
	rfc := mustNew(t, Ed25519, unhex(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
	eth := mustNew(t, Secp256k1Eth, unhex(t, "038318535b54105d4a7aae60c08fc45f9687181b4fdfc625bd1a753fa7397fed75"))
	secp := mustNew(t, Secp256k1, unhex(t, "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"))
	tests := []struct {
		key                  Key
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
		{eth, "address", "", "F39FD6E51AAD88F6F4CE6AB8827279CFFFB92266"},
	}
	for _, tt := range tests {
		got, err := tt.key.Format(tt.format, tt.prefix)
		if err != nil || got != tt.want {
			t.Errorf("Format(%q, %q) = %s, %v\nwant %s", tt.format, tt.prefix, got, err, tt.want)
		}
		if tt.format == "address" || tt.key.Type() == Secp256k1Eth {
			continue
		}
		if read, err := Parse(tt.want); err != nil || !read.Equal(tt.key) {
			t.Errorf("Parse(%s) = %v, %v, want %v", tt.want, read, err, tt.key)
		}
	}
}

// Whatever we print, we read. Nothing follows from an address, and 33 bytes
// alone are a key of type secp256k1.
func TestParseWhatFormatWrites(t *testing.T) {
	for _, v := range readVectors(t) {
		k := mustNew(t, v.typ, v.public)
		for _, format := range Formats() {
			text, err := k.Format(format, "")
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
			case v.typ == Secp256k1Eth && format != "json":
				if got.Type() != Secp256k1 {
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
	raw := unhex(t, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
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
		{"a space before", " " + good, "visible ASCII"},
		{"a line end", good + "\n", "not a character of bech32"},
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
	// Where a format of its own is read, the SDK's is not read.
	if k, err := ParseJSON([]byte(`{"@type":"/cosmos.crypto.ed25519.PubKey","key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`)); err == nil {
		t.Errorf("ParseJSON reads the SDK's form as %v", k)
	}
}

func TestFormatRefuses(t *testing.T) {
	byType := map[Type]Key{}
	for _, v := range readVectors(t) {
		byType[v.typ] = mustNew(t, v.typ, v.public)
	}
	tests := []struct {
		key            Key
		format, prefix string
		want           string
	}{
		{byType[Ed25519], "pem", "", `unknown format "pem": it is one of base64, bech32, hex, json, cosmos-json, address`},
		{byType[Ed25519], "", "", `unknown format ""`},
		{byType[Ed25519], "hex", "cosmosvalconspub", `a prefix goes with the format bech32, not with "hex"`},
		{byType[Ed25519], "bech32", "Cosmos", "letters in lower case"},
		{byType[Ed25519], "bech32", "cos mos", "visible ASCII"},
		{byType[Ed25519], "bech32", strings.Repeat("x", 84), "1 to 83 characters"},
		{byType[Secp256k1Eth], "bech32", "", "keys of type secp256k1eth have no bech32 form"},
		{byType[MLDSA65], "bech32", "", "keys of type ml_dsa_65 have no bech32 form"},
		{byType[Secp256k1Eth], "cosmos-json", "", "the Cosmos SDK has no form for keys of type secp256k1eth"},
		{Key{}, "hex", "", "an empty public key"},
	}
	for _, tt := range tests {
		got, err := tt.key.Format(tt.format, tt.prefix)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v.Format(%q, %q) = %q, %v\nwant an error with %q", tt.key, tt.format, tt.prefix, got, err, tt.want)
		}
	}
	for _, typ := range Types() {
		for _, format := range []string{"base64", "hex", "json", "address"} {
			if _, err := byType[typ].Format(format, ""); err != nil {
				t.Errorf("%s has no format %s: %v", typ, format, err)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	zeros := func(n int) []byte { return make([]byte, n) }
	edwards := func(first, last byte) []byte {
		b := zeros(32)
		b[0], b[31] = first, last
		return b
	}
	fill := func(b []byte, c byte) []byte {
		for i := 1; i < 31; i++ {
			b[i] = c
		}
		return b
	}
	tests := []struct {
		name string
		typ  Type
		b    []byte
		want string
	}{
		{"no type", "", zeros(32), `unknown key type ""`},
		{"bls", "bls12_381", zeros(96), "bls12_381 is not supported"},
		{"short ed25519", Ed25519, zeros(31), "has 32 bytes, not 31"},
		{"long ed25519", Ed25519, zeros(33), "has 32 bytes, not 33"},
		{"ed25519 off the curve", Ed25519, edwards(2, 0), "not a point on the curve of ed25519"},
		{"ed25519 with y = p", Ed25519, fill(edwards(0xed, 0x7f), 0xff), "not a point"},
		{"ed25519 with x = -0", Ed25519, edwards(1, 0x80), "not a point"},
		{"short secp256k1", Secp256k1, zeros(32), "has 33 bytes, not 32"},
		{"uncompressed secp256k1", Secp256k1, zeros(65), "has 33 bytes, not 65"},
		{"secp256k1 off the curve", Secp256k1, append([]byte{2}, zeros(32)...), "not a point on the curve of secp256k1"},
		{"secp256k1eth with a wrong form", Secp256k1Eth, append([]byte{5}, zeros(32)...), "not a point on the curve of secp256k1eth"},
		{"short ml_dsa_65", MLDSA65, zeros(1951), "has 1952 bytes, not 1951"},
	}
	for _, tt := range tests {
		k, err := New(tt.typ, tt.b)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: New = %v, %v, want an error with %q", tt.name, k, err, tt.want)
		}
		if !k.IsZero() {
			t.Errorf("%s: New returned a key with its error", tt.name)
		}
	}
	if _, err := ParseType("bls12_381"); !errors.Is(err, ErrBLS) {
		t.Errorf("ParseType(bls12_381) = %v, want ErrBLS", err)
	}
}

func TestZeroKeyVerifiesNothing(t *testing.T) {
	for n := range 66 {
		if (Key{}).Verify(nil, make([]byte, n)) {
			t.Fatalf("the zero key verifies %d zero bytes", n)
		}
	}
}

// ID is what watermark.ID documents: the same bytes of two types are two keys.
func TestID(t *testing.T) {
	vectors := readVectors(t)
	seen := map[[32]byte]string{}
	for _, v := range vectors {
		k := mustNew(t, v.typ, v.public)
		if other, ok := seen[k.ID()]; ok {
			t.Errorf("%v and %s share an ID", k, other)
		}
		seen[k.ID()] = k.String()
	}
	ed := mustNew(t, Ed25519, vectors[0].public)
	if diff := cmp.Diff(vectors[0].public, func() []byte { id := ed.ID(); return id[:] }()); diff != "" {
		t.Errorf("the ID of an Ed25519 key is not the key: %s", diff)
	}
	// printf 'secp256k1\0' and the bytes of the generator, through sha256sum.
	secp := mustNew(t, Secp256k1, unhex(t, "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"))
	if got, want := fmt.Sprintf("%x", secp.ID()), "b92b54f950c5f0a267aa4042ef4376741b09375b0984375daf07815b284acb55"; got != want {
		t.Errorf("ID() = %s, want %s", got, want)
	}
}

func TestParseJSONRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", "", "cannot read"},
		{"not JSON", "tendermint/PubKeyEd25519", "cannot read"},
		{"bls", `{"type":"cometbft/PubKeyBls12_381","value":""}`, "bls12_381 is not supported"},
		{"sr25519", `{"type":"tendermint/PubKeySr25519","value":""}`, `unknown type of public key "tendermint/PubKeySr25519"`},
		{"a private key", `{"type":"tendermint/PrivKeyEd25519","value":""}`, "unknown type"},
		{"bad base64", `{"type":"tendermint/PubKeyEd25519","value":"!"}`, "value"},
		{"short", `{"type":"tendermint/PubKeyEd25519","value":"AAAA"}`, "has 32 bytes, not 3"},
		{"one field more", `{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","power":"1"}`, "do not belong"},
		{"a field twice", `{"type":"x","type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`, "duplicate key"},
		{"other case", `{"Type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`, "do not belong"},
		{"too long", strings.Repeat(" ", MaxJSONSize+1), "at most 8192 bytes"},
	}
	for _, tt := range tests {
		if k, err := ParseJSON([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ParseJSON = %v, %v, want an error with %q", tt.name, k, err, tt.want)
		}
	}
	if _, err := ParseJSON([]byte(" {\n \"type\": \"tendermint/PubKeyEd25519\",\n \"value\": \"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\" } \n")); err != nil {
		t.Errorf("white space makes it unreadable: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	seen := map[Type]bool{}
	for _, v := range readVectors(b) {
		if seen[v.typ] {
			continue
		}
		seen[v.typ] = true
		b.Run(string(v.typ), func(b *testing.B) {
			k := mustNew(b, v.typ, v.public)
			for b.Loop() {
				if !k.Verify(v.signed[1].message, v.signed[1].signature) {
					b.Fatal("the signature does not verify")
				}
			}
		})
	}
}

// Two types of one curve share their bytes, and neither keys nor states.
func TestTypesAreApart(t *testing.T) {
	point := append([]byte{2}, bytes.Repeat([]byte{0}, 31)...)
	var a, b Key
	var err error
	for x := byte(1); ; x++ { // the first point of the curve
		if a, err = New(Secp256k1, append(point, x)); err == nil {
			b, err = New(Secp256k1Eth, append(point, x))
			break
		}
	}
	if err != nil || a.Equal(b) || b.Equal(a) || !a.Equal(a) || a.ID() == b.ID() || a.Address() == b.Address() {
		t.Errorf("%v and %v: %v", a, b, err)
	}
}
