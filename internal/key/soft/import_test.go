package soft

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/pubkey"
)

// The forms in which the key of RFC 8032 test 1 lies around.
const (
	rfcSeed = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	rfcPair = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
	rfcJSON = `{"address":"21FE31DFA154A261626BF854046FD2271B7BED4B","pub_key":{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"` + rfcPair + `"}}`
)

// rfcExpanded returns scalar and prefix of the key, as RFC 8032 has them.
func rfcExpanded(t testing.TB) []byte {
	t.Helper()
	seed, err := base64.StdEncoding.DecodeString(rfcSeed)
	if err != nil {
		t.Fatal(err)
	}
	h := sha512.Sum512(seed)
	h[0] &= 248
	h[31] = h[31]&127 | 64
	return h[:]
}

// yubiHSM returns the key as a YubiHSM exports it.
func yubiHSM(expanded, public []byte) []byte {
	b := bytes.Clone(expanded)
	slices.Reverse(b[:32])
	return append(b, public...)
}

// A key without its seed signs like the one with it, and keeps to our own file.
func TestExpandedKeySignsAlike(t *testing.T) {
	whole := mustImport(t, []byte(rfcSeed), "")
	k := mustImport(t, []byte(base64.StdEncoding.EncodeToString(rfcExpanded(t))), "")
	reread, err := Decode(k.Encode())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		message := bytes.Repeat([]byte{byte(n)}, n)
		want, err := whole.Sign(nil, message, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []*Key{k, reread} {
			if got, err := k.Sign(nil, message, nil); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("Sign(%x) = %x, %v, want %x", message, got, err, want)
			}
		}
	}
	if _, ok := k.Ed25519(); ok {
		t.Error("a key without seed has one")
	}
	if leaks(fmt.Sprintf("%+v %#v", k, struct{ k *Key }{k}), k.Secret()) {
		t.Error("a printed key shows its secret")
	}
	held := k.secret.expanded
	k.Wipe()
	if !bytes.Equal(append(held.given, held.prefix...), make([]byte, 64)) {
		t.Error("the secret is still in memory")
	}
	if _, err := k.Sign(nil, nil, nil); !errors.Is(err, errWiped) {
		t.Errorf("after Wipe, Sign = %v", err)
	}
}

func TestImportForms(t *testing.T) {
	rfc := mustImport(t, []byte(rfcFile), "").PublicKey()
	secp, eth, ml := one(t, pubkey.Secp256k1), one(t, pubkey.Secp256k1Eth), one(t, pubkey.MLDSA65)
	b64, hexed := base64.StdEncoding.EncodeToString, hex.EncodeToString
	indented := new(bytes.Buffer)
	if err := json.Indent(indented, []byte(rfcJSON), "", "  "); err != nil {
		t.Fatal(err)
	}
	expanded := rfcExpanded(t)
	unclamped := bytes.Clone(expanded)
	unclamped[0] |= 5
	unclamped[31] |= 0x80
	nodeKey := `{"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"` + rfcPair + `"}}`
	otherOrder := `{"pub_key":{"value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=","type":"tendermint/PubKeyEd25519"},"priv_key":{"value":"` + rfcPair + `","type":"tendermint/PrivKeyEd25519"},"address":""}`
	ethLong := fmt.Sprintf(`{"address":"%X","pub_key":{"type":"cometbft/PubKeySecp256k1eth","value":%q},"priv_key":{"type":"cometbft/PrivKeySecp256k1eth","value":%q}}`,
		eth.PublicKey().Address(), b64(eth.PublicKey().Uncompressed()), b64(eth.Secret()))
	tests := []struct {
		name string
		data string
		as   pubkey.Type
		want pubkey.Key
	}{
		{"keys in another order", otherOrder, "", rfc},
		{"pub_key null", `{"pub_key":null,"address":null,` + nodeKey[1:], "", rfc},
		{"an escaped slash", strings.ReplaceAll(rfcJSON, "/", `\/`), "", rfc},
		{"escaped letters", strings.ReplaceAll(rfcJSON, "tendermint", `\u0074endermint`), "", rfc},
		{"a key of its own in pub_key", strings.Replace(rfcJSON, `"pub_key":{`, `"pub_key":{"curve":"ed25519",`, 1), "", rfc},
		{"address with 0x", strings.Replace(rfcJSON, `"21FE`, `"0x21FE`, 1), "", rfc},
		{"secp256k1eth of v2, 65 bytes", ethLong, "", eth.PublicKey()},
		{"secp256k1eth of v2, 33 bytes", strings.Replace(ethLong, b64(eth.PublicKey().Uncompressed()), b64(eth.PublicKey().Bytes()), 1), pubkey.Secp256k1Eth, eth.PublicKey()},
		{"priv_validator_key.json", rfcJSON, "", rfc},
		{"priv_validator_key.json, indented", indented.String() + "\n", pubkey.Ed25519, rfc},
		{"node_key.json", nodeKey, "", rfc},
		{"node_key.json of v0.35", `{"id":"21fe31dfa154a261626bf854046fd2271b7bed4b",` + nodeKey[1:], "", rfc},
		{"address in lower case", strings.Replace(rfcJSON, "21FE31DFA154A261626BF854046FD2271B7BED4B", rfc.NodeID(), 1), "", rfc},
		{"softsign of tmkms", rfcSeed, "", rfc},
		{"softsign of tmkms with a line feed", rfcSeed + "\n", pubkey.Ed25519, rfc},
		{"64 bytes of cosmos/kms", rfcPair + "\n", "", rfc},
		{"secp256k1 of tmkms", b64(secp.Secret()), pubkey.Secp256k1, secp.PublicKey()},
		{"secp256k1eth of cosmos/kms", "0x" + hexed(eth.Secret()) + "\n", pubkey.Secp256k1Eth, eth.PublicKey()},
		{"secp256k1 in upper-case hex", strings.ToUpper(hexed(secp.Secret())), pubkey.Secp256k1, secp.PublicKey()},
		{"ml_dsa_65 of cosmos/kms", b64(ml.Secret()), "", ml.PublicKey()},
		{"our own", rfcFile, "", rfc},
		{"64 bytes of tmkms, expanded", b64(expanded), "", rfc},
		{"64 bytes, not clamped", b64(unclamped), pubkey.Ed25519, rfc},
		{"96 bytes of tmkms, of a YubiHSM", b64(yubiHSM(expanded, rfc.Bytes())), "", rfc},
	}
	for _, tt := range tests {
		k, err := Import([]byte(tt.data), tt.as)
		if err != nil || !k.PublicKey().Equal(tt.want) {
			t.Errorf("%s: Import = %v, %v, want %v", tt.name, k, err, tt.want)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	edit := func(old, new string) string {
		if !strings.Contains(rfcJSON, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(rfcJSON, old, new, 1)
	}
	expanded := rfcExpanded(t)
	public := mustImport(t, []byte(rfcSeed), "").PublicKey().Bytes()
	tests := []struct {
		name string
		data string
		as   pubkey.Type
		want string
	}{
		{"empty", "", "", "it is empty"},
		{"blank", " \n", "", "it is empty"},
		{"torn JSON", rfcJSON[:len(rfcJSON)-3], "", "not a key file of a known form"},
		{"JSON and more", rfcJSON + rfcJSON, "", "not a key file of a known form"},
		{"no priv_key", `{"pub_key":null}`, "", "no priv_key"},
		{"a shard of Horcrux", `{"pubKey":"CiA=","privateShard":"AAAA","id":1}`, "", "a shard of Horcrux' key; `privyseal migrate horcrux DIR…`"},
		{"a shard of an older Horcrux", `{"pub_key":"CiA=","secret_share":"AAAA","id":1}`, "", "a shard of Horcrux' key"},
		{"a state file", `{"height":"0","round":0,"step":0}`, "", "no priv_key"},
		{"another pub_key", edit("11qYAY", "Mm5KPb"), "", "its pub_key does not belong"},
		{"a pub_key of 65 bytes, as in Heimdall v1", edit(`"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="`, `"tendermint/PubKeySecp256k1","value":"`+b64(append([]byte{4}, make([]byte, 64)...))+`"`), "", "as in Heimdall v1 (Polygon)"},
		{"a torn pub_key", edit("11qYAY", "11"), "", "its pub_key does not belong"},
		{"an empty pub_key", edit(`{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}`, `{}`), "", "its pub_key does not belong"},
		{"another type in pub_key", edit("PubKeyEd25519", "PubKeySecp256k1"), "", "its pub_key does not belong"},
		{"another address", edit("21FE", "21FF"), "", "its address does not belong"},
		{"half a private key", edit(rfcPair, rfcSeed), "", "has 64 bytes, not 32"},
		{"halves of two keys", edit("2DXWpgB", "2DXWpgC"), "", "its two halves"},
		{"no base64", edit(rfcPair, "!"), "", "not a key file of a known form"},
		{"bls", edit("tendermint/PrivKeyEd25519", "cometbft/PrivKeyBls12_381"), "", "bls12_381 is not supported"},
		{"sr25519", edit("tendermint/PrivKeyEd25519", "tendermint/PrivKeySr25519"), "", "of the type sr25519"},
		{"a type that nobody has", edit("tendermint/PrivKeyEd25519", "tendermint/PrivKeyEd448"), "", "unknown type"},
		{"sealed by SGX", `{"seal_key_request":{"keyname":4},"nonce":[1],"sealed_secret":[2]}`, "", "sealed by an SGX enclave"},
		{"a KMS ciphertext", "\x01\x02\x02\x00x\xf1\x8c", "", "not a key file of a known form"},
		{"another type than asked for", rfcJSON, pubkey.Secp256k1, "a key of type ed25519, not of type secp256k1"},
		{"a seed for ml_dsa_65", rfcSeed, pubkey.MLDSA65, "not a key file of a known form"},
		{"64 bytes for secp256k1", rfcPair, pubkey.Secp256k1, "has 32 bytes, not 64"},
		{"hex without a type", hex.EncodeToString(public), "", "not a key file of a known form"},
		{"a scalar of zero", b64(make([]byte, 32)), pubkey.Secp256k1, "out of the range"},
		{"a scalar above the order", b64(bytes.Repeat([]byte{0xff}, 32)), pubkey.Secp256k1Eth, "out of the range"},
		{"31 bytes", b64(make([]byte, 31)), "", "not a key file of a known form"},
		{"96 bytes with another public key", b64(yubiHSM(expanded, append([]byte{public[0] ^ 1}, public[1:]...))), "", "its public key does not belong"},
		{"96 bytes, not backwards", b64(append(expanded, public...)), "", "its public key does not belong"},
		{"a damaged ml_dsa_65 key", b64(bytes.Repeat([]byte{0xff}, 4032)), "", "the secret key is damaged"},
		{"huge", strings.Repeat("A", MaxFileSize+4), "", "more than 65536 bytes"},
	}
	for _, tt := range tests {
		k, err := Import([]byte(tt.data), tt.as)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Import = %v, %v, want an error with %q", tt.name, k, err, tt.want)
		}
	}
}

// Spoil a key file at each of its bytes: it is refused or gives the same key,
// and no error shows what is in it.
func TestImportErrorsDoNotShowTheSecret(t *testing.T) {
	k := mustImport(t, []byte(rfcJSON), "")
	pair := append(k.Secret(), k.PublicKey().Bytes()...)
	for _, file := range []string{rfcJSON, rfcFile, rfcSeed, rfcPair} {
		for i := range file {
			for _, c := range []string{"", "!", "\"", "\x00", "A", "\n"} {
				spoiled := file[:i] + c + file[i+1:]
				got, err := Import([]byte(spoiled), "")
				if err != nil && leaks(err.Error(), pair[:32]) {
					t.Fatalf("%q: the error shows the secret: %v", spoiled, err)
				}
				// A seed in base64 has nothing to check it by, nor has an expanded
				// key, which a spoiled pair looks like.
				if err == nil && file != rfcSeed && file != rfcPair && !got.PublicKey().Equal(k.PublicKey()) {
					t.Fatalf("%q gives another key", spoiled)
				}
			}
		}
	}
}

// FuzzImport: whatever is accepted is a whole key, of the type asked for, that
// goes through our own file.
func FuzzImport(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add([]byte(v.file), "")
		f.Add([]byte(v.file), string(v.typ))
	}
	for _, data := range []string{rfcJSON, rfcFile, rfcSeed, rfcPair, `{"seal_key_request":{}}`} {
		f.Add([]byte(data), "")
		f.Add([]byte(data), "secp256k1")
	}
	f.Add([]byte(base64.StdEncoding.EncodeToString(rfcExpanded(f))), "ed25519")
	f.Add(fmt.Appendf(nil, "0x%064x", 7), "secp256k1eth")
	f.Fuzz(func(t *testing.T, data []byte, as string) {
		k, err := Import(data, pubkey.Type(as))
		if err != nil {
			return
		}
		if as != "" && string(k.Type()) != as {
			t.Fatalf("asked for %s, got %v", as, k)
		}
		again, err := Decode(k.Encode())
		if err != nil || !again.PublicKey().Equal(k.PublicKey()) {
			t.Fatalf("%v does not go through our own file: %v", k, err)
		}
		if private, ok := k.Ed25519(); ok && !k.PublicKey().Verify(data, ed25519.Sign(private, data)) {
			t.Fatalf("%v signs with another key", k)
		}
	})
}
