package lightsgx

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"privyseal/internal/gcmsiv"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// backupKey is the key of tmkms-light's own test vector (cloud.rs, test_rsa2).
var backupKey, _ = hex.DecodeString("924a14cdcb1b8b0e630cbe643bfbd83ed070879562fe51ece24de27af2a77e5a")

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func ints(b []byte) (list []int) {
	for _, x := range b {
		list = append(list, int(x))
	}
	return list
}

// backup makes one as tmkms-light does.
func backup(t testing.TB, secret, public []byte) []byte {
	t.Helper()
	nonce := []byte("twelve bytes")
	sealed, err := gcmsiv.Seal(backupKey, nonce, secret, public)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"nonce": ints(nonce), "sealed_secret": ints(sealed), "public_key": ints(public)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newKey(t testing.TB) *soft.Key {
	t.Helper()
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The 296 bytes in tmkms-light's sources open to the key that stands beside them.
func TestUnwrapKey(t *testing.T) {
	external, private := read(t, "external.key"), read(t, "wrap-private.pem")
	key, err := UnwrapKey(external, private)
	if err != nil || !bytes.Equal(key, backupKey) {
		t.Errorf("%x, %v", key, err)
	}
	for i := range external {
		if _, err := UnwrapKey(external[:i], private); err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
	for i := range len(private) - len("-----END RSA PRIVATE KEY-----\n") {
		if _, err := UnwrapKey(external, private[:i]); err == nil {
			t.Fatalf("the first %d bytes of the wrap key", i)
		}
	}
	if _, err := UnwrapKey(external, []byte(`{"seal_key_request":{}}`)); err == nil || !strings.Contains(err.Error(), "take the key of the backup from the HSM") {
		t.Errorf("a sealed wrap key: %v", err)
	}
}

func TestBackup(t *testing.T) {
	key := newKey(t)
	public := key.PublicKey().Bytes()
	file := backup(t, key.Secret(), public)
	b, err := ParseBackup(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Open(backupKey)
	if err != nil || !got.PublicKey().Equal(key.PublicKey()) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := b.Open(make([]byte, 32)); err == nil || !strings.Contains(err.Error(), "does not open with this key") {
		t.Errorf("another key: %v", err)
	}
	for i := range file {
		if _, err := ParseBackup(file[:i]); err == nil || !strings.Contains(err.Error(), "not a backup of tmkms-light's SGX provider") || strings.Contains(err.Error(), "\n") {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
	// The enclave takes the public key from the file, and never computes it.
	if b, err = ParseBackup(backup(t, newKey(t).Secret(), public)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(backupKey); err == nil || !strings.Contains(err.Error(), "not that of the public key beside it") {
		t.Errorf("another secret: %v", err)
	}
	for name, text := range map[string]string{
		"no byte": `{"nonce":[256],"sealed_secret":[],"public_key":[]}`, "negative": `{"nonce":[-1],"sealed_secret":[],"public_key":[]}`,
		"base64": `{"nonce":"AAAA","sealed_secret":[],"public_key":[]}`, "short": `{"nonce":[1],"sealed_secret":[],"public_key":[]}`, "more": strings.Replace(string(file), "{", `{"a":1,`, 1),
	} {
		if _, err := ParseBackup([]byte(text)); err == nil || !strings.Contains(err.Error(), "not a backup of tmkms-light's SGX provider") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A number that is no byte is not cut to one.
	more := strings.Replace(string(file), `"nonce":[116,`, `"nonce":[372,`, 1)
	if _, err := ParseBackup([]byte(more)); more == string(file) || err == nil || !strings.Contains(err.Error(), "372 is not a byte") {
		t.Errorf("a number of two bytes: %v", err)
	}
	sealed := `{"seal_key_request":{"keyname":4,"keypolicy":2,"isvsvn":0,"cpusvn":[0],"attributemask":[0,0],"keyid":[0],"miscmask":0},"nonce":[0],"sealed_secret":[0]}`
	if _, err := ParseBackup([]byte(sealed)); err == nil || !strings.Contains(err.Error(), "which only that enclave opens") {
		t.Errorf("a sealed key: %v", err)
	}
}

func TestParseKey(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		ok   bool
	}{
		"raw": {backupKey, true}, "base64": {[]byte(base64.StdEncoding.EncodeToString(backupKey) + "\n"), true}, "31 bytes": {backupKey[:31], false}, "nothing": {nil, false},
		"hex": {[]byte(hex.EncodeToString(backupKey)), false},
	} {
		if got, err := ParseKey(c.data); (err == nil) != c.ok || c.ok && !bytes.Equal(got, backupKey) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// What is accepted has the sizes of tmkms-light's.
func FuzzParseBackup(f *testing.F) {
	key := newKey(f)
	f.Add(backup(f, key.Secret(), key.PublicKey().Bytes()))
	f.Add([]byte(`{"seal_key_request":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBackup(data)
		if err != nil {
			return
		}
		if len(b.nonce) != 12 || len(b.sealed) != 48 || len(b.public) != 32 {
			t.Fatalf("%+v", b)
		}
		if k, err := b.Open(backupKey); err == nil && !bytes.Equal(k.PublicKey().Bytes(), b.public) {
			t.Fatal("another key")
		}
	})
}
