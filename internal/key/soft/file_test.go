package soft

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/pubkey"
)

// The file format, as the comment in file.go has it, with the key of RFC 8032
// test 1.
const rfcFile = `privyseal software key 1
type ed25519
public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
secret nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=
`

func TestFormatIsAsDocumented(t *testing.T) {
	k, err := Decode([]byte(rfcFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rfcFile, string(k.Encode())); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(rfcFile, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(rfcFile, old, new, 1)
	}
	tests := []struct{ name, file, want string }{
		{"empty", "", "truncated"},
		{"torn in the header", rfcFile[:9], "truncated"},
		{"torn in the secret", rfcFile[:len(rfcFile)-9], "truncated"},
		{"no end of line", rfcFile[:len(rfcFile)-1], "truncated"},
		{"more lines", rfcFile + "\n", "truncated"},
		{"zeros", string(make([]byte, 200)), "truncated"},
		{"a later version", edit("key 1", "key 2"), "truncated"},
		{"carriage returns", strings.ReplaceAll(rfcFile, "\n", "\r\n"), "truncated"},
		{"a blank", edit("secret ", "secret  "), "truncated"},
		{"unpadded", edit("f2A=", "f2A"), "truncated"},
		{"loose bits", edit("f2A=", "f2B="), "truncated"},
		{"a broken line", edit("nWGx", "nW\rGx"), "truncated"},
		{"no type", edit("type ed25519\n", ""), "truncated"},
		{"another type", edit("ed25519", "secp256k1"), "its public key does not belong"},
		{"bls", edit("ed25519", "bls12_381"), "truncated"},
		{"another order", "privyseal software key 1\n" + strings.Join([]string{"public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "type ed25519", "secret nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", ""}, "\n"), "truncated"},
		{"another public key", edit("11qYAY", "22qYAY"), "its public key does not belong"},
		{"another secret key", edit("nWGxne", "mWGxne"), "its public key does not belong"},
		{"an unclamped scalar", "privyseal software key 1\ntype ed25519\npublic 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\nsecret " + rfcPair + "\n", "neither reduced nor one that RFC 8032 makes"},
		{"huge", rfcFile + strings.Repeat("x", MaxFileSize), "truncated"},
	}
	secret := mustImport(t, []byte(rfcFile), "").Secret()
	for _, tt := range tests {
		_, err := Decode([]byte(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Decode = %v, want an error with %q", tt.name, err, tt.want)
		}
		if err != nil && leaks(err.Error(), secret) {
			t.Errorf("%s: the error shows the secret: %v", tt.name, err)
		}
	}
}

// A packed ML-DSA-65 key holds parts that its public key does not depend on.
func TestDamagedMLDSA(t *testing.T) {
	k := one(t, pubkey.MLDSA65)
	for name, offset := range map[string]int{"rho": 0, "tr": 64, "s1": 200} {
		b := k.Secret()
		b[offset] ^= 0x01
		got, err := FromSecret(pubkey.MLDSA65, b)
		if err == nil && got.PublicKey().Equal(k.PublicKey()) {
			t.Errorf("a key with a wrong bit in %s passes", name)
		}
	}
	b := k.Secret()
	clear(b[1536:]) // all of t0
	if _, err := FromSecret(pubkey.MLDSA65, b); err == nil {
		t.Error("a key without its t0 passes")
	}
	b = k.Secret()
	b[200] = 0xff // a coefficient out of range
	if _, err := FromSecret(pubkey.MLDSA65, b); err == nil {
		t.Error("a key with a coefficient out of range passes")
	}
}

// FuzzDecode: what is accepted is, byte for byte, what encode writes.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(rfcFile))
	for _, v := range readVectors(f) {
		f.Add(mustImport(f, []byte(v.file), "").Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Decode(data)
		if err != nil {
			return
		}
		if !bytes.Equal(k.Encode(), data) {
			t.Fatalf("%q was read, and written as %q", data, k.Encode())
		}
	})
}
