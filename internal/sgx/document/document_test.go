package document

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// The bytes of a document and its hash are those that doc/formats.md describes: they were
// made with printf and sha512sum.
func TestBytes(t *testing.T) {
	d := Document{Quote: []byte("quote"), UserData: []byte(`{"v":1}`), Nonce: []byte{0xff}}
	b, err := d.Encode()
	if err != nil || string(b) != "privyseal sgx document 1\n\x00\x00\x00\x05quote\x00\x00\x00\x07{\"v\":1}\x00\x00\x00\x01\xff\x00\x00\x00\x00" {
		t.Errorf("%q, %v", b, err)
	}
	sum := ReportData(d.UserData, d.Nonce, d.PublicKey)
	if got := hex.EncodeToString(sum[:]); got != known {
		t.Errorf("%s", got)
	}
}

const known = "f731a7cc39f2e4590c96e3deb3a570428a9e2b5781d88b417c81a7b22d9b75205155766c2c42825e23ed1308995a1a1cc2829ec9812d8e8bd2cb4ca6d260668b"

// Two documents with the same hash are the same one: what is moved from one part to the
// next changes it.
func TestParts(t *testing.T) {
	seen := map[[64]byte]bool{}
	for _, p := range [][3]string{{"ab", "", ""}, {"a", "b", ""}, {"", "ab", ""}, {"", "a", "b"}, {"", "", "ab"}, {"a", "", "b"}, {"", "", ""}, {"\x00\x00\x00\x00", "", ""}} {
		sum := ReportData([]byte(p[0]), []byte(p[1]), []byte(p[2]))
		if seen[sum] {
			t.Errorf("%q has the hash of another", p)
		}
		seen[sum] = true
	}
}

func TestDecode(t *testing.T) {
	part := func(s string) string { return string([]byte{0, 0, byte(len(s) >> 8), byte(len(s))}) + s }
	for name, tt := range map[string]struct{ raw, says string }{
		"good":              {Magic + part("q") + part("u") + part("n") + part("k"), ""},
		"empty":             {Magic + part("") + part("") + part("") + part(""), ""},
		"nothing":           {"", "it begins otherwise"},
		"another version":   {strings.Replace(Magic, "1", "2", 1) + part("q") + part("") + part("") + part(""), "it begins otherwise"},
		"three parts":       {Magic + part("q") + part("u") + part("n"), "ends too early"},
		"a part of a part":  {Magic + part("q") + part("u") + part("n") + part("key")[:6], "part 4 of the document has a length of 3 bytes"},
		"a long nonce":      {Magic + part("q") + part("u") + part(strings.Repeat("n", maxNonce+1)) + part(""), "part 3 of the document has a length of 1025 bytes"},
		"the longest nonce": {Magic + part("q") + part("u") + part(strings.Repeat("n", maxNonce)) + part(""), ""},
		"four gigabytes":    {Magic + "\xff\xff\xff\xff", "a length of 4294967295 bytes"},
		"a byte more":       {Magic + part("q") + part("u") + part("n") + part("k") + "x", "something follows"},
	} {
		d, err := Decode([]byte(tt.raw))
		if tt.says == "" {
			if again, failed := d.Encode(); err != nil || failed != nil || string(again) != tt.raw {
				t.Errorf("%s: %q, %v, %v", name, again, err, failed)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.says) || d.Quote != nil {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	for i, d := range []Document{{Quote: make([]byte, maxQuote+1)}, {UserData: make([]byte, maxUserData+1)}, {Nonce: make([]byte, maxNonce+1)}, {PublicKey: make([]byte, maxPublicKey+1)}} {
		if _, err := d.Encode(); err == nil {
			t.Errorf("part %d may have any size", i+1)
		}
	}
	largest := Document{make([]byte, maxQuote), make([]byte, maxUserData), make([]byte, maxNonce), make([]byte, maxPublicKey)}
	if b, err := largest.Encode(); err != nil || len(b) != MaxSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Documents and quotes are found as they are, and in base64 with line feeds.
func TestRaw(t *testing.T) {
	quote := "\x03\x00\x02\x00quote"
	for text, want := range map[string]string{
		Magic + "x": Magic + "x", quote: quote, "AwACAHF1\nb3Rl\n": quote, "cHJpdnlzZWFsIHNneCBkb2N1bWVudCAxCng=\n": Magic + "x",
		"": "", "AwACAA": "", "\x84x": "", "hEQ=": "", "BgACAHF1b3Rl": "", "privyseal sgx": "",
	} {
		if got := string(Raw([]byte(text))); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Document{Quote: []byte("q"), UserData: []byte("u")}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Decode(raw)
		if err != nil {
			return
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q is read as %+v", raw, d)
		}
	})
}
