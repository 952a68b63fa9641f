package pubkey

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
			if got := k.JSON(); got != v.json {
				t.Errorf("JSON() = %s, want %s", got, v.json)
			}
			if got, err := base64.StdEncoding.DecodeString(k.Base64()); err != nil || !bytes.Equal(got, v.public) {
				t.Errorf("Base64() = %s, %v", k.Base64(), err)
			}
			if got := fmt.Sprintf("%X", k.Address()); got != v.address {
				t.Errorf("Address() = %s, want %s", got, v.address)
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

func TestZeroKeyIsNothing(t *testing.T) {
	if text := (Key{}).JSON(); text != "" {
		t.Errorf("the zero key is written as %s", text)
	}
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
	// The SDK's form is another one.
	if k, err := ParseJSON([]byte(`{"@type":"/cosmos.crypto.ed25519.PubKey","key":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`)); err == nil {
		t.Errorf("ParseJSON reads the SDK's form as %v", k)
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
