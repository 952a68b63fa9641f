package bech32

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzDecode: what is written can be read again.
func FuzzDecode(f *testing.F) {
	f.Add("cosmosvalconspub", []byte{0x16, 0x24, 0xde, 0x64, 0x20})
	f.Add("a", []byte{})
	f.Fuzz(func(t *testing.T, hrp string, data []byte) {
		text, err := Encode(hrp, data)
		if err != nil {
			return
		}
		gotHRP, got, err := Decode(string(text))
		if err != nil || gotHRP != hrp || !bytes.Equal(got, data) {
			t.Fatalf("%q and %x became %s, which reads %q and %x, %v", hrp, data, text, gotHRP, got, err)
		}
	})
}

// TestVectors has the valid strings of BIP 173 that carry whole bytes.
func TestVectors(t *testing.T) {
	for _, want := range []string{
		"a12uel5l",
		"an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
		"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
	} {
		hrp, data, err := Decode(want)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if got, err := Encode(hrp, data); err != nil || string(got) != want {
			t.Errorf("Encode(%q, %x) = %s, %v, want %s", hrp, data, got, err, want)
		}
	}
	for _, bad := range []string{"a12uel5m", "A12UEL5L", "a1lqfn3a", "1nwldj5", "a1b", ""} {
		if hrp, data, err := Decode(bad); err == nil {
			t.Errorf("%q reads as %q and %x", bad, hrp, data)
		}
	}
}

// Each character of bech32 is under its checksum, and so is the prefix.
func TestChecksum(t *testing.T) {
	text, err := Encode("prefix", []byte("some data"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Decode(string(text)); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		for _, c := range []byte(alphabet) {
			bad := bytes.Clone(text)
			if bad[i] == c || bad[i] == '1' {
				continue
			}
			bad[i] = c
			if hrp, data, err := Decode(string(bad)); err == nil {
				t.Fatalf("%s is taken for %s of %q", bad, data, hrp)
			}
		}
	}
}

// Groups of five bits that whole bytes do not fill, or fill with something else than zeros.
func TestGroups(t *testing.T) {
	groups := fiveBits([]byte("some")) // 32 bits, and 3 of zeros
	for name, g := range map[string][]byte{
		"padding that is not zero": append(bytes.Clone(groups[:6]), groups[6]|1),
		"two groups too much":      append(bytes.Clone(groups), 0, 0),
	} {
		text := "prefix1"
		for _, c := range append(g, checksum("prefix", g)...) {
			text += alphabet[c : c+1]
		}
		if _, data, err := Decode(text); err == nil || !strings.Contains(err.Error(), "ends within a byte") {
			t.Errorf("%s: %s reads as %q, %v", name, text, data, err)
		}
	}
}
