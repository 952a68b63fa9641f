package hostlink

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"
)

// A sealed secret opens with its key, for the chain, key and state that it was
// sealed with, and for nothing else.
func TestSeal(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{make([]byte, 32), bytes.Repeat([]byte{7}, 4032)} { // ed25519, ML-DSA-65
		imp := Import{ChainID: "chain-1", KeyType: "ed25519", Public: []byte{1}, Height: 41, Step: 2, SignBytes: []byte{9}}
		if err := imp.Seal(&key.PublicKey, secret); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(imp.Sealed, secret) {
			t.Error("the secret shows")
		}
		// Whoever carries it adds its credentials, and it crosses the wall as JSON.
		imp.Credentials = Credentials{AccessKeyID: "id", Expires: time.Unix(1, 0)}
		wire, err := json.Marshal(imp)
		if err != nil {
			t.Fatal(err)
		}
		var inside Import
		if err := json.Unmarshal(wire, &inside); err != nil {
			t.Fatal(err)
		}
		got, err := inside.Open(key)
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("opened to %x, %v", got, err)
		}
		for name, change := range map[string]func(*Import){
			"chain":      func(i *Import) { i.ChainID = "chain-2" },
			"type":       func(i *Import) { i.KeyType = "secp256k1" },
			"public key": func(i *Import) { i.Public = []byte{2} },
			"height":     func(i *Import) { i.Height-- },
			"round":      func(i *Import) { i.Round++ },
			"step":       func(i *Import) { i.Step-- },
			"sign bytes": func(i *Import) { i.SignBytes = nil },
			"fresh":      func(i *Import) { i.Fresh = true },
		} {
			bad := inside
			change(&bad)
			if _, err := bad.Open(key); !errors.Is(err, errNotSealed) {
				t.Errorf("with another %s: %v", name, err)
			}
		}
	}
}

// Each changed byte and each truncation is refused, with one error.
func TestSealedIsWhole(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	imp := Import{ChainID: "chain-1", Fresh: true}
	if err := imp.Seal(&key.PublicKey, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	sealed := imp.Sealed
	for i := 0; i < len(sealed); i += 5 {
		imp.Sealed = slices.Clone(sealed)
		imp.Sealed[i] ^= 1
		if _, err := imp.Open(key); !errors.Is(err, errNotSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		imp.Sealed = sealed[:i]
		if _, err := imp.Open(key); !errors.Is(err, errNotSealed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	imp.Sealed = sealed
	if _, err := imp.Open(other); !errors.Is(err, errNotSealed) {
		t.Errorf("with another key: %v", err)
	}
}

// The envelope is what its comment says, opened by hand: others seal to it as well.
func TestSealedForm(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	imp := Import{ChainID: "chain-1", KeyType: "ed25519", Public: []byte{1}, Height: 41, Step: 2}
	secret := bytes.Repeat([]byte{7}, 32)
	if err := imp.Seal(&key.PublicKey, secret); err != nil {
		t.Fatal(err)
	}
	inner, err := rsa.DecryptOAEP(sha256.New(), nil, key, imp.Sealed[:256], []byte("privyseal import"))
	if err != nil || len(inner) != 32 {
		t.Fatalf("the key inside: %d bytes, %v", len(inner), err)
	}
	block, err := aes.NewCipher(inner)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	bound := []byte(`{"chain_id":"chain-1","key_type":"ed25519","public":"AQ==","height":41,"step":2,"credentials":{"access_key_id":"","secret_access_key":""}}`)
	got, err := aead.Open(nil, make([]byte, 12), imp.Sealed[256:], bound)
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("opened to %x, %v", got, err)
	}
	// A secret that was sealed under any other label does not open.
	for _, label := range []string{"", "privyseal", "privyseal import "} {
		other, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, inner, []byte(label))
		if err != nil {
			t.Fatal(err)
		}
		bad := imp
		bad.Sealed = append(other, imp.Sealed[256:]...)
		if _, err := bad.Open(key); !errors.Is(err, errNotSealed) {
			t.Errorf("under the label %q: %v", label, err)
		}
	}
}
