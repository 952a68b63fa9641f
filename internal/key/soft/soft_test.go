package soft

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"privyseal/internal/pubkey"
)

var _ crypto.Signer = (*Key)(nil)

// vector is a block of pubkey's testdata/keys.txt, which CometBFT itself made.
type vector struct {
	typ      pubkey.Type
	public   string // hex
	file     string // priv_validator_key.json
	messages [][2]string
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("../../pubkey/testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for block := range strings.SplitSeq(string(text), "\n\n") {
		var v vector
		message := ""
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, " ")
			switch name {
			case "type":
				v.typ = pubkey.Type(value)
			case "public":
				v.public = value
			case "file":
				v.file = value
			case "message":
				message = value
			case "signature":
				v.messages = append(v.messages, [2]string{message, value})
			}
		}
		if v.typ != "" {
			vectors = append(vectors, v)
		}
	}
	if len(vectors) != 16 {
		t.Fatalf("keys.txt has %d keys, not 16", len(vectors))
	}
	return vectors
}

// one returns a key of each type, from the vectors.
func one(t testing.TB, typ pubkey.Type) *Key {
	t.Helper()
	for _, v := range readVectors(t) {
		if v.typ == typ {
			return mustImport(t, []byte(v.file), typ)
		}
	}
	t.Fatalf("no vector of type %s", typ)
	return nil
}

func mustImport(t testing.TB, data []byte, as pubkey.Type) *Key {
	t.Helper()
	k, err := Import(data, as)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A key file that CometBFT wrote gives the signatures that CometBFT gives, and
// goes through our own file unchanged.
func TestSignsLikeCometBFT(t *testing.T) {
	for i, v := range readVectors(t) {
		t.Run(fmt.Sprintf("%d-%s", i, v.typ), func(t *testing.T) {
			imported := mustImport(t, []byte(v.file), "")
			reread, err := Decode(imported.Encode())
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []*Key{imported, reread} {
				if got := fmt.Sprintf("%x", k.PublicKey().Bytes()); got != v.public {
					t.Errorf("the public key is %s, want %s", got, v.public)
				}
				for _, m := range v.messages {
					sig, err := k.Sign(rand.Reader, unhex(t, m[0]), crypto.Hash(0))
					if got := fmt.Sprintf("%x", sig); err != nil || got != m[1] {
						t.Errorf("the signature over %s is %s, %v\nwant %s", m[0], got, err, m[1])
					}
				}
			}
		})
	}
}

func TestGenerate(t *testing.T) {
	for _, typ := range pubkey.Types() {
		a, err := Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		if a.PublicKey().Equal(b.PublicKey()) {
			t.Errorf("%s: two generated keys are the same", typ)
		}
		sig1, err1 := a.Sign(nil, []byte("message"), nil)
		sig2, err2 := a.Sign(rand.Reader, []byte("message"), crypto.Hash(0))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sig1, sig2) {
			t.Errorf("%s: two signatures over one message differ", typ)
		}
		if !a.PublicKey().Verify([]byte("message"), sig1) || b.PublicKey().Verify([]byte("message"), sig1) {
			t.Errorf("%s: the signature verifies with the wrong keys", typ)
		}
		if public, ok := a.Public().(pubkey.Key); !ok || !public.Equal(a.PublicKey()) {
			t.Errorf("%s: Public() is %v", typ, a.Public())
		}
		private, ok := a.Ed25519()
		if ok != (typ == pubkey.Ed25519) || (ok && !bytes.Equal(ed25519.Sign(private, []byte("message")), sig1)) {
			t.Errorf("%s: Ed25519() = _, %v", typ, ok)
		}
	}
	for _, typ := range []pubkey.Type{"", "bls12_381", "sr25519"} {
		if k, err := Generate(typ); err == nil {
			t.Errorf("Generate(%q) = %v", typ, k)
		}
	}
}

func TestSignRefusesOptions(t *testing.T) {
	k := one(t, pubkey.Ed25519)
	for _, opts := range []crypto.SignerOpts{crypto.SHA256, crypto.SHA512, &ed25519.Options{Context: "x"}, &ed25519.Options{}} {
		if sig, err := k.Sign(nil, make([]byte, 64), opts); err == nil {
			t.Errorf("Sign with %#v = %x", opts, sig)
		}
	}
}

func TestWipe(t *testing.T) {
	for _, typ := range pubkey.Types() {
		k := one(t, typ)
		public := k.PublicKey()
		before := *k.secret
		k.Wipe()
		if sig, err := k.Sign(nil, []byte("message"), nil); !errors.Is(err, errWiped) {
			t.Errorf("%s: after Wipe, Sign = %x, %v", typ, sig, err)
		}
		if _, ok := k.Ed25519(); ok {
			t.Errorf("%s: after Wipe there is an Ed25519 key", typ)
		}
		if !k.PublicKey().Equal(public) {
			t.Errorf("%s: Wipe took the public key too", typ)
		}
		switch {
		case before.pair != nil:
			if *before.pair != [64]byte{} {
				t.Errorf("%s: the seed is still in memory", typ)
			}
		case before.scalar != nil:
			if !before.scalar.Key.IsZero() {
				t.Errorf("%s: the scalar is still in memory", typ)
			}
		case before.lattice != nil:
			if !bytes.Equal(before.lattice.Bytes()[:64], make([]byte, 64)) {
				t.Errorf("%s: the lattice key is still in memory", typ)
			}
		}
	}
}

// leaks reports whether text shows twelve characters in a row of the secret, in
// any of the ways in which bytes are printed.
func leaks(text string, secret []byte) bool {
	forms := []string{
		base64.StdEncoding.EncodeToString(secret),
		base64.RawURLEncoding.EncodeToString(secret),
		hex.EncodeToString(secret),
		strings.ToUpper(hex.EncodeToString(secret)),
		strings.Trim(fmt.Sprintf("%v", secret), "[]"),
		strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"),
		string(secret),
	}
	for _, form := range forms {
		for i := 0; i+12 <= len(form); i++ {
			if strings.Contains(text, form[i:i+12]) {
				return true
			}
		}
	}
	return false
}

// However a key is printed, and wherever it lies, its secret does not show.
func TestSecretDoesNotShow(t *testing.T) {
	for _, typ := range pubkey.Types() {
		k := one(t, typ)
		secret := k.Secret()
		if typ == pubkey.MLDSA65 {
			// What comes before and after is a part or a hash of the public key.
			secret = append(secret[32:64], secret[128:512]...)
		}
		if !leaks(fmt.Sprintf("%v", secret), secret) || !leaks(fmt.Sprintf("<%x>", secret), secret) {
			t.Fatal("the test is blind")
		}
		type outer struct {
			Shown  *Key
			Value  Key
			hidden *Key
			value  Key
		}
		var logged bytes.Buffer
		for _, thing := range []any{k, *k, []*Key{k}, map[string]Key{"k": *k}, outer{k, *k, k, *k}, &outer{k, *k, k, *k}, fmt.Errorf("failed: %v", k)} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t"} {
				if text := fmt.Sprintf(verb, thing); leaks(text, secret) {
					t.Errorf("%s: %s of %T shows the secret: %.300s", typ, verb, thing, text)
				}
			}
			for _, handler := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
				slog.New(handler).Info("loaded", "key", thing)
			}
			text, err := json.Marshal(thing)
			if err != nil || leaks(string(text), secret) {
				t.Errorf("%s: JSON of %T shows the secret, or fails: %.300s, %v", typ, thing, text, err)
			}
		}
		if leaks(logged.String(), secret) {
			t.Errorf("%s: the log shows the secret", typ)
		}
		if !strings.Contains(logged.String(), k.PublicKey().String()) {
			t.Errorf("%s: the log does not say which key it was", typ)
		}
	}
}

// What is derived for one use is of no use for another, and is the key's alone.
func TestDerive(t *testing.T) {
	a, err := Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]string{}
	for name, key := range map[string]*Key{"a": a, "b": b} {
		for _, use := range []string{"state record 1", "state record 2", ""} {
			got, err := key.Derive(use)
			again, _ := key.Derive(use)
			if err != nil || got != again || got == [32]byte{} {
				t.Errorf("%s of %s: %x, %x, %v", use, name, got, again, err)
			}
			if other, taken := seen[got]; taken {
				t.Errorf("%q of %s is %s too", use, name, other)
			}
			seen[got] = use + " of " + name
		}
	}
}

// A scalar is one that RFC 8032 makes, or a reduced one above zero. Nothing is clamped
// here: who takes it in does so, and says so.
func TestScalarsAreAsTheyAre(t *testing.T) {
	good := append(bytes.Repeat([]byte{0x40}, 32), "a prefix that is known to nobody"...)
	if _, err := FromSecret(pubkey.Ed25519, good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(b []byte){
		"the lowest bits": func(b []byte) { b[0] |= 1 }, "the third bit": func(b []byte) { b[0] |= 4 },
		"the highest bit": func(b []byte) { b[31] |= 0x80 }, "none": func(b []byte) { clear(b[:32]) },
	} {
		bad := bytes.Clone(good)
		spoil(bad)
		if _, err := FromSecret(pubkey.Ed25519, bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
