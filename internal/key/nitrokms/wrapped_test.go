package nitrokms

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/claims"
	"privyseal/internal/secret"
)

func TestWrap(t *testing.T) {
	f := newFakeKMS(t)
	for name, change := range map[string]func(*secret.Key){
		"generated": func(*secret.Key) {},
		"imported":  func(s *secret.Key) { s.Origin = claims.Imported },
		"identity":  func(s *secret.Key) { s.ChainID = "" },
		"ML-DSA-65": func(s *secret.Key) {
			s.KeyType, s.Public, s.Secret = "ml_dsa_65", make([]byte, 1952), secret.NewBytes(make([]byte, 4032))
		},
		"long chain": func(s *secret.Key) { s.ChainID = strings.Repeat("é", 25) },
	} {
		s := testSecret()
		change(&s)
		k := f.client()
		wrapped, err := k.Wrap(t.Context(), creds, s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Unwrap(t.Context(), creds, wrapped)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if bytes.Contains(wrapped, s.Secret.Reveal()[:16]) && len(s.Secret.Reveal()) == 32 {
			t.Errorf("%s: the secret stands in the file", name)
		}
		h, err := Inspect(wrapped)
		if err != nil || h.KeyARN != keyARN || h.ChainID != s.ChainID || h.KeyType != s.KeyType || !bytes.Equal(h.Public, s.Public) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestCreated(t *testing.T) {
	k := newFakeKMS(t).client()
	s := testSecret()
	s.Created = time.Time{}
	wrapped, err := k.Wrap(t.Context(), creds, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unwrap(t.Context(), creds, wrapped); err != nil || !got.Created.Equal(epoch) {
		t.Errorf("created %s, %v", got.Created, err)
	}
}

func TestWrapRefuses(t *testing.T) {
	f := newFakeKMS(t)
	for name, change := range map[string]func(*secret.Key){
		"no origin":      func(s *secret.Key) { s.Origin = "" },
		"unknown origin": func(s *secret.Key) { s.Origin = "found" },
		"long chain":     func(s *secret.Key) { s.ChainID = strings.Repeat("x", 51) },
		"no type":        func(s *secret.Key) { s.KeyType = "" },
		"no public key":  func(s *secret.Key) { s.Public = nil },
		"no secret":      func(s *secret.Key) { s.Secret = secret.Bytes{} },
		"long secret":    func(s *secret.Key) { s.Secret = secret.NewBytes(make([]byte, maxSecret+1)) },
		"before 1970":    func(s *secret.Key) { s.Created = time.Unix(-1, 0) },
	} {
		s := testSecret()
		change(&s)
		if _, err := f.client().Wrap(t.Context(), creds, s); err == nil {
			t.Errorf("%s: wrapped", name)
		}
	}
	if len(f.requests()) != 0 {
		t.Error("asked KMS for a key that was not needed")
	}
}

// A wrapped key that was changed anywhere does not open, even if KMS gave out its
// data key all the same.
func TestTamperedWrapped(t *testing.T) {
	key := testSecret()
	dataKey := bytes.Repeat([]byte{8}, 32)
	h := Header{KeyARN: keyARN, ChainID: key.ChainID, KeyType: key.KeyType, Public: key.Public, dataKey: make([]byte, 184)}
	wrapped, err := h.seal(dataKey, &key)
	if err != nil {
		t.Fatal(err)
	}
	open := func(b []byte) (secret.Key, error) {
		h, sealed, err := parseWrapped(b)
		if err != nil {
			return secret.Key{}, err
		}
		return h.open(dataKey, sealed)
	}
	if got, err := open(wrapped); err != nil || !cmp.Equal(got, key) {
		t.Fatalf("opens to %v, %v", got, err)
	}
	for i := range wrapped {
		if _, err := Inspect(wrapped[:i]); !errors.Is(err, errWrapped) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
		for bit := range 8 {
			b := bytes.Clone(wrapped)
			b[i] ^= 1 << bit
			if _, err := open(b); !errors.Is(err, errWrapped) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	if _, err := Inspect(append(bytes.Clone(wrapped), 0)); !errors.Is(err, errWrapped) {
		t.Errorf("a byte too much: %v", err)
	}
}

// A host that has several wrapped keys cannot mix them, and a KMS key that is not
// the policy's is not even asked.
func TestMixedWrapped(t *testing.T) {
	f := newFakeKMS(t)
	k := f.client()
	one, two := goodWrapped(t, f), goodWrapped(t, f)
	h1, sealed1, err := parseWrapped(one)
	if err != nil {
		t.Fatal(err)
	}
	h2, sealed2, err := parseWrapped(two)
	if err != nil {
		t.Fatal(err)
	}
	otherChain := h1
	otherChain.ChainID = "test-2"
	otherKey := h1
	otherKey.Public = bytes.Repeat([]byte{7}, 32)
	otherType := h1
	otherType.KeyType = "secp256k1"
	for name, b := range map[string][]byte{
		"data key of the other": appendField(h2.encode(), sealed1),
		"secret of the other":   appendField(h1.encode(), sealed2),
		"another chain":         appendField(otherChain.encode(), sealed1),
		"another public key":    appendField(otherKey.encode(), sealed1),
		"another type":          appendField(otherType.encode(), sealed1),
	} {
		if s, err := k.Unwrap(t.Context(), creds, b); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
	seen := len(f.requests())
	otherARN := h1
	otherARN.KeyARN = strings.Replace(keyARN, "1234abcd", "00000000", 1)
	if _, err := k.Unwrap(t.Context(), creds, appendField(otherARN.encode(), sealed1)); !errors.Is(err, errOtherKey) || len(f.requests()) != seen {
		t.Errorf("another KMS key: %v", err)
	}
}

// What is inside has one form.
func TestInner(t *testing.T) {
	good := testSecret()
	inner := encode(&good)
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"no secret":        inner[:innerHead],
		"origin 0":         append([]byte{0}, inner[1:]...),
		"origin 3":         append([]byte{3}, inner[1:]...),
		"time 0":           append(append([]byte{1}, make([]byte, 8)...), inner[innerHead:]...),
		"time before 1970": append([]byte{1, 0x80}, inner[2:]...),
	} {
		s := testSecret()
		if err := decode(&s, b); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
}

// FuzzWrapped holds the law: what is accepted encodes to the same bytes.
func FuzzWrapped(f *testing.F) {
	h := Header{KeyARN: keyARN, ChainID: "test-1", KeyType: "ed25519", Public: make([]byte, 32), dataKey: make([]byte, 184)}
	f.Add(appendField(h.encode(), make([]byte, 69)))
	f.Add([]byte(wrappedMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, sealed, err := parseWrapped(b)
		if err != nil {
			if !errors.Is(err, errWrapped) {
				t.Error(err)
			}
			return
		}
		if again := appendField(h.encode(), sealed); !bytes.Equal(again, b) {
			t.Errorf("accepted %x, which encodes to %x", b, again)
		}
	})
}

func FuzzInner(f *testing.F) {
	s := testSecret()
	f.Add(encode(&s))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := testSecret()
		if err := decode(&s, b); err != nil {
			return
		}
		if again := encode(&s); !bytes.Equal(again, b) {
			t.Errorf("accepted %x, which encodes to %x", b, again)
		}
	})
}

func FuzzCiphertext(f *testing.F) {
	f.Add([]byte(`{"CiphertextBlob": "AQID", "KeyId": "x"}`))
	f.Add([]byte("AQID\n"))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, file []byte) {
		b, err := ReadCiphertext(file)
		if err == nil && (len(b) == 0 || len(b) > maxCiphertext || len(b) > len(file)) {
			t.Errorf("%d bytes of %d", len(b), len(file))
		}
	})
}
