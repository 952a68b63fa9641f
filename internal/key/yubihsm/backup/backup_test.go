package backup

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"privyseal/internal/key/soft"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/yubihsm"
)

// counting returns n bytes, from 0 on: the secret keys and the wrap keys of testdata.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// blobOf returns a backup of testdata, which yubihsm-wrap made. Of its key, the secret is
// counting(32), the seed or the scalar.
func blobOf(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/yubihsm-wrap-2.6.0_" + name + ".backup")
	if err != nil {
		t.Fatal(err)
	}
	blob, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := Encode(blob); !bytes.Equal(append(got, '\n'), text) {
		t.Errorf("%s is written as %q", name, got)
	}
	return blob
}

func softKey(t testing.TB, typ pubkey.Type, secret []byte) *soft.Key {
	t.Helper()
	k, err := soft.FromSecret(typ, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestCCM has the vectors of the standard.
func TestCCM(t *testing.T) {
	file, err := os.Open("testdata/rfc3610_packet-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var number int
		var key, nonce, additional, text, want []byte
		if _, err := fmt.Sscanf(lines.Text(), "%d %x %x %x %x %x", &number, &key, &nonce, &additional, &text, &want); err != nil {
			continue // a comment
		}
		n++
		c, err := newCCM(key, len(want)-len(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.seal(nonce, text, additional); !bytes.Equal(got, want) {
			t.Errorf("vector %d: %x, want %x", number, got, want)
		}
		if got, err := c.open(nonce, want, additional); err != nil || !bytes.Equal(got, text) {
			t.Errorf("vector %d: %x, %v", number, got, err)
		}
		if got, err := c.open(nonce, want, additional[1:]); err == nil {
			t.Errorf("vector %d without the first byte under the tag: %x", number, got)
		}
		if got, err := c.open(nonce, want[:c.tagSize-1], additional); err == nil {
			t.Errorf("vector %d, less than a tag: %x", number, got)
		}
	}
	if n != 9 {
		t.Errorf("%d vectors", n)
	}
}

// What yubihsm-wrap wrote is read, and written again with the same bytes.
func TestRecorded(t *testing.T) {
	for name, want := range map[string]struct {
		object  yubihsm.Object
		typ     pubkey.Type
		wrapKey []byte
	}{
		"ed25519": {yubihsm.Object{ID: 7, Label: "validator", Domains: 1, Algorithm: yubihsm.Ed25519,
			Capabilities: yubihsm.SignEdDSA | yubihsm.ExportableUnderWrap}, pubkey.Ed25519, counting(32)},
		"eck256": {yubihsm.Object{ID: 0xfffe, Label: strings.Repeat("0123456789", 4), Domains: 0x8001, Algorithm: yubihsm.K256,
			Capabilities: yubihsm.SignECDSA}, pubkey.Secp256k1, counting(16)},
	} {
		blob := blobOf(t, name)
		b, err := Open(want.wrapKey, blob)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if b.Object != want.object || b.Sequence != 0 || b.Origin != yubihsm.Imported {
			t.Errorf("%s: %+v", name, b)
		}
		key := softKey(t, want.typ, counting(32))
		if !b.Key.PublicKey().Equal(key.PublicKey()) {
			t.Errorf("%s: %v, want %v", name, b.Key, key)
		}
		for _, k := range []*soft.Key{b.Key, key} { // as it was read, and from its seed
			b.Key = k
			if again, err := b.seal(want.wrapKey, blob[:nonceSize]); err != nil || !bytes.Equal(again, blob) {
				t.Errorf("%s: %v is written as %x, %v", name, k, again, err)
			}
		}
	}
}

func TestSealTakesANewNonce(t *testing.T) {
	b := mustOpen(t, counting(32), blobOf(t, "ed25519"))
	one, err := b.Seal(counting(32))
	two, err2 := b.Seal(counting(32))
	if err != nil || err2 != nil || bytes.Equal(one[:nonceSize], two[:nonceSize]) {
		t.Errorf("%x, %x, %v, %v", one, two, err, err2)
	}
	if again := mustOpen(t, counting(32), one); again.Object != b.Object || !again.Key.PublicKey().Equal(b.Key.PublicKey()) {
		t.Errorf("%+v", again)
	}
}

func mustOpen(t testing.TB, wrapKey, blob []byte) *Backup {
	t.Helper()
	b, err := Open(wrapKey, blob)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A backup that is cut short, anywhere, is called that.
func TestCutShort(t *testing.T) {
	for _, name := range []string{"ed25519", "eck256"} {
		blob, key := blobOf(t, name), counting(32)
		if name == "eck256" {
			key = counting(16)
		}
		for n := range blob {
			if b, err := Open(key, blob[:n]); !errors.Is(err, errShort) {
				t.Fatalf("%s, %d bytes: %v, %v", name, n, b, err)
			}
		}
		if b, err := Open(key, append(blob, 0)); !errors.Is(err, errWrapKey) {
			t.Errorf("%s and a byte: %v, %v", name, b, err)
		}
		text := Encode(blob)
		for n := range text {
			short, err := Decode(text[:n])
			if err == nil {
				_, err = Open(key, short)
			}
			if err == nil || !strings.Contains(err.Error(), "cut short") {
				t.Fatalf("%s, %d characters: %v", name, n, err)
			}
		}
	}
}

// Each bit counts, and the wrap key has to be the right one.
func TestAnotherWrapKey(t *testing.T) {
	blob := blobOf(t, "ed25519")
	for i := range 8 * len(blob) {
		bad := bytes.Clone(blob)
		bad[i/8] ^= 1 << (i % 8)
		if b, err := Open(counting(32), bad); !errors.Is(err, errWrapKey) {
			t.Fatalf("bit %d: %v, %v", i, b, err)
		}
	}
	for _, key := range [][]byte{counting(16), counting(24), bytes.Repeat([]byte{1}, 32)} {
		if b, err := Open(key, blob); !errors.Is(err, errWrapKey) {
			t.Errorf("wrap key %x: %v, %v", key, b, err)
		}
	}
	for _, n := range []int{0, 15, 31, 33} {
		_, err := Open(counting(n), blob)
		b := mustOpen(t, counting(32), blob)
		_, sealErr := b.Seal(counting(n))
		for _, err := range []error{err, sealErr} {
			if want := fmt.Sprintf("a wrap key has 16, 24 or 32 bytes, not %d", n); err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
}

// Other objects are named.
func TestOther(t *testing.T) {
	for name, want := range map[string]string{
		"authentication-key": "its object is of type authentication-key",
		"ecp256":             "its key is of algorithm ecp256",
	} {
		if b, err := Open(counting(32), blobOf(t, name)); !errors.Is(err, errOther) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want an error with %q", name, b, err, want)
		}
	}
}

// What the wrap key opens is still no key, if it is not written as one.
func TestMalformed(t *testing.T) {
	plain := func(name string, key []byte) []byte {
		b := mustOpen(t, key, blobOf(t, name))
		p, err := b.plain(wrapAlgorithm(key))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ed, k256 := plain("ed25519", counting(32)), plain("eck256", counting(16))
	k256[0] = byte(yubihsm.AES256CCMWrap)
	with := func(p []byte, at int, b ...byte) []byte {
		p = bytes.Clone(p)
		copy(p[at:], b)
		return p
	}
	for _, tt := range []struct {
		name  string
		plain []byte
		want  string
	}{
		{"no header", ed[:headerSize-1], "it does not describe an object"},
		{"a header alone", with(ed[:headerSize], 11, 0, 0), "its key has another length"},
		{"another wrap key", with(ed, 0, byte(yubihsm.AES128CCMWrap)), "it names another kind of wrap key"},
		{"another length", with(ed, 12, 95), "its length is another one"},
		{"a byte less", ed[:plainSize-1], "its length is another one"},
		{"a byte more", append(bytes.Clone(ed), 0), "its length is another one"},
		{"a longer key", with(append(bytes.Clone(k256), 0), 12, 97), "its key has another length"},
		{"no id", with(ed, 9, 0, 0), "its object has no id"},
		{"a seed", with(append(bytes.Clone(ed), counting(32)...), 12, 128), "export the key again without its seed"},
		{"128 bytes of secp256k1", with(append(bytes.Clone(k256), counting(32)...), 12, 128), "its key has another length"},
		{"another public key", with(ed, plainSize-1, ed[plainSize-1]^1), "its public key does not belong to its secret key"},
		{"another scalar", with(ed, headerSize+1, ed[headerSize+1]^1), "its public key does not belong to its secret key"},
		{"a scalar with other bits", with(ed, headerSize, ed[headerSize]|0x80), "neither reduced nor one that RFC 8032 makes"},
		{"another x", with(k256, headerSize+40, k256[headerSize+40]^1), "its public key does not belong to its secret key"},
		{"another y", with(k256, plainSize-1, k256[plainSize-1]^2), "its public key does not belong to its secret key"},
		{"the scalar 0", with(k256, headerSize, make([]byte, 32)...), "out of the range"},
		{"an Ed25519 key as secp256k1", with(ed, 16, byte(yubihsm.K256)), "its public key does not belong to its secret key"},
	} {
		c, err := cipherOf(counting(32))
		if err != nil {
			t.Fatal(err)
		}
		nonce := make([]byte, nonceSize)
		b, err := Open(counting(32), append(nonce, c.seal(nonce, tt.plain, nil)...))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want an error with %q", tt.name, b, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), hex.EncodeToString(ed[headerSize:headerSize+4])) {
			t.Errorf("%s: %v shows the secret", tt.name, err)
		}
	}
}

// A Backup that no device would take is not written.
func TestSealRefuses(t *testing.T) {
	good := mustOpen(t, counting(32), blobOf(t, "ed25519"))
	wiped := softKey(t, pubkey.Ed25519, counting(32))
	wiped.Wipe()
	wiped2 := softKey(t, pubkey.Secp256k1, counting(32))
	wiped2.Wipe()
	shares := softKey(t, pubkey.Ed25519, append(append([]byte{5}, make([]byte, 31)...), counting(32)...))
	for _, tt := range []struct {
		name   string
		change func(b *Backup)
		want   string
	}{
		{"no key", func(b *Backup) { b.Key = nil }, "cannot be in a backup"},
		{"no id", func(b *Backup) { b.ID = 0 }, "the id 0"},
		{"a long label", func(b *Backup) { b.Label = strings.Repeat("x", 41) }, "a label of 41 bytes"},
		{"a label that ends with zeros", func(b *Backup) { b.Label = "x\x00" }, "cannot be in a backup"},
		{"another algorithm", func(b *Backup) { b.Algorithm = yubihsm.K256 }, "a key of type ed25519 cannot be in a backup as eck256"},
		{"another key", func(b *Backup) { b.Key = softKey(t, pubkey.Secp256k1, counting(32)) }, "a key of type secp256k1 cannot be in a backup as ed25519"},
		{"a wiped key", func(b *Backup) { b.Key = wiped }, "wiped"},
		{"a wiped key of secp256k1", func(b *Backup) { b.Key, b.Algorithm = wiped2, yubihsm.K256 }, "wiped"},
		{"a key of shares", func(b *Backup) { b.Key = shares }, "made from shares"},
	} {
		b := *good
		tt.change(&b)
		if blob, err := b.Seal(counting(32)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %x, %v, want an error with %q", tt.name, blob, err, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": " \n", "no base64": "nothing!", "bits after the end": "QUJDRB==", "a large file": strings.Repeat("QUJD", maxText/4+1),
	} {
		if blob, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s: %x", name, blob)
		}
	}
	if blob, err := Decode([]byte("\nQUJD\r\nREVG\n")); err != nil || string(blob) != "ABCDEF" {
		t.Errorf("lines: %q, %v", blob, err)
	}
}

// A device takes our backup, signs with it, and its own is read.
func TestDevice(t *testing.T) {
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	transport, err := yubihsm.Open(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	s, err := yubihsm.Authenticate(t.Context(), transport, 1, yubihsm.DeriveKey([]byte("password")))
	if err != nil {
		t.Fatal(err)
	}
	wrapKey := counting(32)
	all := yubihsm.SignEdDSA | yubihsm.SignECDSA | yubihsm.ExportableUnderWrap
	if _, err := s.PutWrapKey(t.Context(), yubihsm.Object{ID: 1, Domains: 1, Algorithm: yubihsm.AES256CCMWrap,
		Capabilities: yubihsm.ExportWrapped | yubihsm.ImportWrapped, Delegated: all}, wrapKey); err != nil {
		t.Fatal(err)
	}
	for id, typ := range map[uint16]pubkey.Type{3: pubkey.Ed25519, 4: pubkey.Secp256k1} {
		k, err := soft.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
		b := &Backup{Object: yubihsm.Object{ID: id, Label: "ours", Domains: 1, Capabilities: all, Algorithm: yubihsm.Ed25519}, Origin: yubihsm.Imported, Key: k}
		if typ == pubkey.Secp256k1 {
			b.Algorithm = yubihsm.K256
		}
		blob, err := b.Seal(wrapKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, gotID, err := s.ImportWrapped(t.Context(), 1, blob); err != nil || got != yubihsm.TypeAsymmetricKey || gotID != id {
			t.Fatalf("%s: the device says %v, %d, %v", typ, got, gotID, err)
		}
		if typ == pubkey.Ed25519 {
			signature, err := s.SignEdDSA(t.Context(), id, []byte("a text that is no vote"))
			if err != nil || !ed25519.Verify(k.PublicKey().Bytes(), []byte("a text that is no vote"), signature) {
				t.Errorf("%x, %v", signature, err)
			}
		}
		exported, err := s.ExportWrapped(t.Context(), 1, yubihsm.TypeAsymmetricKey, id)
		if err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, wrapKey, exported)
		if again.Object != b.Object || again.Origin != yubihsm.Imported|yubihsm.ImportedWrapped || !again.Key.PublicKey().Equal(k.PublicKey()) {
			t.Errorf("%s: %+v", typ, again)
		}
	}
}

// FuzzParse: what is accepted is written again with the same bytes.
func FuzzParse(f *testing.F) {
	for name, key := range map[string][]byte{"ed25519": counting(32), "eck256": counting(16)} {
		c, err := cipherOf(key)
		if err != nil {
			f.Fatal(err)
		}
		blob := blobOf(f, name)
		plain, err := c.open(blob[:nonceSize], blob[nonceSize:], nil)
		if err != nil {
			f.Fatal(err)
		}
		plain[0] = byte(yubihsm.AES256CCMWrap)
		f.Add(plain)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := parse(plain, yubihsm.AES256CCMWrap)
		if err != nil {
			return
		}
		if again, err := b.plain(yubihsm.AES256CCMWrap); err != nil || !bytes.Equal(again, plain) {
			t.Fatalf("%x is written as %x, %v", plain, again, err)
		}
	})
}

// FuzzOpen: no file is taken for a backup that was not made with the wrap key.
func FuzzOpen(f *testing.F) {
	f.Add(Encode(blobOf(f, "ed25519")))
	f.Add([]byte("QUJD"))
	f.Fuzz(func(t *testing.T, text []byte) {
		blob, err := Decode(text)
		if err != nil {
			return
		}
		if b, err := Open(bytes.Repeat([]byte{9}, 32), blob); err == nil {
			t.Fatalf("%x is taken for %+v", blob, b)
		}
	})
}
