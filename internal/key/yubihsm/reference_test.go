package yubihsm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/pubkey"
)

const (
	goodReference = "privyseal yubihsm key 1\nid 0x0abc\ntype ed25519\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
	secpReference = "privyseal yubihsm key 1\nid 0x0001\ntype secp256k1\npublic Anm+Zn753LusVaBilc6HCwcCm/zbLc4o2VnygVsW+BeY\n"
)

func TestReference(t *testing.T) {
	for text, want := range map[string]struct {
		id uint16
		of pubkey.Type
	}{goodReference: {0xabc, pubkey.Ed25519}, secpReference: {1, pubkey.Secp256k1}} {
		r, err := ParseReference([]byte(text))
		if err != nil || r.ID != want.id || r.Public.Type() != want.of {
			t.Errorf("%+v, %v", r, err)
		}
	}
	for name, text := range map[string]string{
		"empty":            "",
		"cut off":          goodReference[:len(goodReference)-1],
		"a line more":      goodReference + "x\n",
		"another format":   strings.Replace(goodReference, "key 1", "key 2", 1),
		"of Vault":         strings.Replace(goodReference, "yubihsm", "vault", 1),
		"id 0":             strings.Replace(goodReference, "0x0abc", "0x0000", 1),
		"a decimal id":     strings.Replace(goodReference, "0x0abc", "2748", 1),
		"a short id":       strings.Replace(goodReference, "0x0abc", "0xabc", 1),
		"a capital id":     strings.Replace(goodReference, "0x0abc", "0x0ABC", 1),
		"an id too large":  strings.Replace(goodReference, "0x0abc", "0x10000", 1),
		"another type":     strings.Replace(goodReference, "ed25519", "secp256k1", 1),
		"no type":          strings.Replace(goodReference, "ed25519", "", 1),
		"a type of others": strings.Replace(secpReference, "secp256k1", "secp256k1eth", 1),
		"a short key":      strings.Replace(goodReference, "11qY", "", 1),
		"not base64":       strings.Replace(goodReference, "11qY", "!!!!", 1),
		"another end":      strings.Replace(goodReference, "Ro=", "Rp=", 1),
		"other line feeds": strings.ReplaceAll(goodReference, "\n", "\r\n"),
		"other order":      "privyseal yubihsm key 1\ntype ed25519\nid 0x0abc\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n",
	} {
		if r, err := ParseReference([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReadReference(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"good":               {goodReference, 0o644, ""},
		"written by a group": {goodReference, 0o620, "may be written by others"},
		"torn":               {goodReference[:40], 0o600, "it is truncated, or not a file that names a key of a YubiHSM"},
		"long":               {goodReference + strings.Repeat("x", 2000), 0o600, "more than 1024 bytes"},
	} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadReference(path)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is accepted is, byte for byte, what is written.
func FuzzReference(f *testing.F) {
	f.Add([]byte(goodReference))
	f.Add([]byte(secpReference))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseReference(data); err == nil && !bytes.Equal(r.Encode(), data) {
			t.Errorf("%q became %q", data, r.Encode())
		}
	})
}
