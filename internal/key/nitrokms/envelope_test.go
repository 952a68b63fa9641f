package nitrokms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"privyseal/internal/key/nitrokms/kmstest"
)

// vector reads a file that was made by AWS.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../../shared/vectors/nitro", name))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("PRIVYSEAL_REQUIRE_VECTORS") != "1" {
		t.Skipf("%s is missing: the vectors live in shared/vectors beside the repository, and `make test` runs with them there", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, text []byte) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// published returns the recipient with the key that the real envelope was made
// for.
func published(t testing.TB) *Recipient {
	t.Helper()
	key, err := x509.ParsePKCS1PrivateKey(unhex(t, vector(t, "kms-recipient-key.pkcs1.hex")))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRecipient(key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sharedRecipient is made once: it takes half a second under the race detector.
var sharedRecipient = sync.OnceValues(NewRecipient)

func recipient(t testing.TB) *Recipient {
	t.Helper()
	r, err := sharedRecipient()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An envelope by the real KMS.
func TestRealEnvelope(t *testing.T) {
	sealed := vector(t, "kms-ciphertext-for-recipient.ber")
	r := published(t)
	got, err := r.Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, vector(t, "kms-plaintext.hex")); !bytes.Equal(got, want) {
		t.Errorf("opens to %x, want %x", got, want)
	}
	for n := range sealed {
		if _, err := r.Open(sealed[:n]); !errors.Is(err, errEnvelope) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	if _, err := r.Open(append(bytes.Clone(sealed), 0)); !errors.Is(err, errEnvelope) {
		t.Errorf("a byte too much: %v", err)
	}
	if _, err := recipient(t).Open(sealed); !errors.Is(err, errEnvelope) {
		t.Errorf("with another key: %v", err)
	}
}

// A changed envelope fails with the one error, or opens to something else where
// CBC lets it: in the ciphertext or its IV. Authenticity is TLS's.
func TestChangedEnvelope(t *testing.T) {
	sealed := vector(t, "kms-ciphertext-for-recipient.ber")
	r := published(t)
	want := unhex(t, vector(t, "kms-plaintext.hex"))
	const ivStart, ivEnd, ciphertextStart, ciphertextEnd = 415, 431, 435, 483
	for i := range sealed {
		for _, x := range []byte{1, 0x20, 0x80, 0xff} {
			b := bytes.Clone(sealed)
			b[i] ^= x
			got, err := r.Open(b)
			malleable := i >= ivStart && i < ivEnd || i >= ciphertextStart && i < ciphertextEnd
			if err == nil && (!malleable || bytes.Equal(got, want)) || err != nil && err != errEnvelope {
				t.Errorf("byte %d ^ %#x: %x, %v", i, x, got, err)
			}
		}
	}
}

// What the tests' KMS seals has the shape of what the real one does.
func TestSeal(t *testing.T) {
	r := recipient(t)
	for _, n := range []int{0, 1, 15, 16, 17, 32, 64, 1000, 4096, kmstest.MaxPlaintext} {
		plain := bytes.Repeat([]byte{7}, n)
		sealed, err := kmstest.Seal(r.PublicKey(), plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	real := vector(t, "kms-ciphertext-for-recipient.ber")
	mine, err := kmstest.Seal(r.PublicKey(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if len(mine) != len(real) {
		t.Fatalf("%d bytes, the real one has %d", len(mine), len(real))
	}
	for _, random := range [][2]int{{33, 65}, {131, 387}, {415, 431}, {435, 483}} {
		clear(real[random[0]:random[1]])
		clear(mine[random[0]:random[1]])
	}
	if !bytes.Equal(mine, real) {
		t.Errorf("the shape differs:\n%x\n%x", mine, real)
	}
}

func TestSealRefuses(t *testing.T) {
	r := recipient(t)
	if _, err := kmstest.Seal(r.PublicKey(), make([]byte, kmstest.MaxPlaintext+1)); err == nil {
		t.Error("sealed too much")
	}
	if _, err := kmstest.Seal([]byte("key"), nil); err == nil {
		t.Error("sealed to no key")
	}
}

// encoded is an element with either kind of length.
func encoded(tag byte, indefinite bool, content []byte) []byte {
	if indefinite {
		return append(append([]byte{tag, 0x80}, content...), 0, 0)
	}
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

// envelopeOf writes an envelope with all lengths of one kind, and the ciphertext
// in pieces.
func envelopeOf(t testing.TB, r *Recipient, indefinite bool, pieces ...[]byte) []byte {
	t.Helper()
	sealed, err := kmstest.Seal(r.PublicKey(), []byte("sixteen bytes of"))
	if err != nil {
		t.Fatal(err)
	}
	e, ok := parseEnvelope(sealed)
	if !ok {
		t.Fatal("the tests' KMS makes no envelopes")
	}
	if pieces == nil {
		pieces = [][]byte{e.ciphertext}
	}
	var content []byte
	for _, p := range pieces {
		content = append(content, encoded(tagOctets, false, p)...)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	seq := func(tag byte, parts ...[]byte) []byte { return encoded(tag, indefinite, join(parts...)) }
	prim := func(tag byte, content string) []byte { return encoded(tag, false, []byte(content)) }
	hash := seq(tagSequence, prim(tagOID, oidSHA256), prim(tagNull, ""))
	oaep := seq(tagSequence, prim(tagOID, oidOAEP), seq(tagSequence,
		seq(tagExplicit0, hash), seq(tagExplicit1, seq(tagSequence, prim(tagOID, oidMGF1), hash))))
	info := seq(tagSequence, prim(tagInteger, version2), encoded(tagOctets0, false, e.recipient), oaep, encoded(tagOctets, false, e.encryptedKey))
	encrypted := seq(tagSequence, prim(tagOID, oidData), seq(tagSequence, prim(tagOID, oidAES256CBC), encoded(tagOctets, false, e.iv)), seq(tagOctets0|constructed, content))
	data := seq(tagSequence, prim(tagInteger, version2), seq(tagSet, info), encrypted)
	return seq(tagSequence, prim(tagOID, oidEnvelopedData), seq(tagExplicit0, data))
}

// The lengths may be of either kind, and the ciphertext in pieces of any size.
func TestShapes(t *testing.T) {
	r := recipient(t)
	for _, indefinite := range []bool{false, true} {
		if got, err := r.Open(envelopeOf(t, r, indefinite)); err != nil || string(got) != "sixteen bytes of" {
			t.Errorf("indefinite %v: %q, %v", indefinite, got, err)
		}
	}
	sealed, err := kmstest.Seal(r.PublicKey(), []byte("sixteen bytes of"))
	if err != nil {
		t.Fatal(err)
	}
	// The end of the ciphertext in an element of its own: the same bytes but
	// for a head of two more.
	e, _ := parseEnvelope(bytes.Clone(sealed))
	at := bytes.Index(sealed, append([]byte{tagOctets, 32}, e.ciphertext...)) // the head alone may be in what is random
	split := bytes.Join([][]byte{sealed[:at], {tagOctets, 5}, sealed[at+2 : at+7], {tagOctets, 27}, sealed[at+7:]}, nil)
	if got, err := r.Open(split); err != nil || string(got) != "sixteen bytes of" {
		t.Errorf("in two pieces: %q, %v", got, err)
	}
}

// What a forger with the public key can try, all of which ends in the one error.
func TestForgedEnvelopes(t *testing.T) {
	r := recipient(t)
	good, indefinite := envelopeOf(t, r, false), envelopeOf(t, r, true)
	e, _ := parseEnvelope(bytes.Clone(indefinite))
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"zeros":             make([]byte, 493),
		"a byte behind it":  append(bytes.Clone(good), 0),
		"an end behind it":  append(bytes.Clone(indefinite), 0, 0),
		"no ciphertext":     envelopeOf(t, r, true, []byte{}),
		"short IV":          bytes.Replace(indefinite, append([]byte{tagOctets, 16}, e.iv...), append([]byte{tagOctets, 15}, e.iv[1:]...), 1),
		"short recipient":   bytes.Replace(indefinite, append([]byte{tagOctets0, 32}, r.id()...), append([]byte{tagOctets0, 31}, r.id()[1:]...), 1),
		"half a block":      envelopeOf(t, r, true, make([]byte, 24)),
		"too large":         envelopeOf(t, r, true, make([]byte, maxEnvelope)),
		"deep":              append(bytes.Repeat([]byte{0x30, 0x80}, 4000), make([]byte, 8000)...),
		"AES-128":           bytes.Replace(good, []byte(oidAES256CBC), []byte("\x60\x86\x48\x01\x65\x03\x04\x01\x02"), 1),
		"OAEP with SHA-224": bytes.Replace(good, []byte("\x04\x02\x01\x05\x00"), []byte("\x04\x02\x04\x05\x00"), 1),
		"MGF1 with SHA-224": bytes.Replace(good, []byte("\x01\x08\x30\x0d"+"\x06\x09"+oidSHA256), []byte("\x01\x08\x30\x0d\x06\x09"+oidSHA256[:8]+"\x04"), 1),
		"version 0":         bytes.Replace(good, []byte("\x02\x01"+version2), []byte("\x02\x01\x00"), 1),
		"another recipient": bytes.Replace(good, r.id(), make([]byte, 32), 1),
	} {
		if got, err := r.Open(b); err != errEnvelope {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func (r *Recipient) id() []byte {
	id := sha256.Sum256(r.spki)
	return id[:]
}

// The key inside has to be one of AES-256.
func TestShortContentKey(t *testing.T) {
	r := recipient(t)
	sealed := envelopeOf(t, r, true)
	e, _ := parseEnvelope(sealed)
	short, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &r.key.PublicKey, make([]byte, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(bytes.Replace(sealed, e.encryptedKey, short, 1)); err != errEnvelope {
		t.Errorf("got %v", err)
	}
}

// Padding is 1 to 16 bytes that all hold their number.
func TestPadding(t *testing.T) {
	key, iv := make([]byte, 32), make([]byte, 16)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		end  string // of 32 bytes
		left int    // -1: refused
	}{
		{"\x01", 31}, {"\x02\x02", 30}, {strings.Repeat("\x10", 16), 16}, {strings.Repeat("\x10", 17), 16}, {"\x05\x01", 31},
		{"\x00", -1}, {"\x01\x02", -1}, {"\x11", -1}, {strings.Repeat("\x11", 17), -1}, {strings.Repeat("\x20", 32), -1},
		{"\x0f" + strings.Repeat("\x10", 15), -1}, {"\x03\x02\x03", -1}, {"\xff", -1}, {"\x81", -1},
	} {
		plain := append(bytes.Repeat([]byte{0xaa}, 32-len(test.end)), test.end...)
		sealed := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, plain)
		got, err := openCBC(key, iv, sealed)
		if test.left < 0 && err != errEnvelope || test.left >= 0 && (err != nil || !bytes.Equal(got, plain[:test.left])) {
			t.Errorf("%x: %x, %v", test.end, got, err)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	r, err := NewRecipient()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelopeOf(f, r, false))
	f.Add(envelopeOf(f, r, true))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parseEnvelope(bytes.Clone(b))
		if ok && (len(e.recipient) != 32 || len(e.iv) != 16 || len(e.ciphertext) > len(b)) {
			t.Errorf("accepted %x", b)
		}
		if _, err := r.Open(bytes.Clone(b)); err != nil && err != errEnvelope {
			t.Errorf("got %v", err)
		}
	})
}
