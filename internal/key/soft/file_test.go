package soft

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

func write(t *testing.T, path, data string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestEncodeAndOpen(t *testing.T) {
	for _, typ := range pubkey.Types() {
		k := one(t, typ)
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, string(k.Encode()), 0o600)
		got, err := Open(path, "")
		if err != nil {
			t.Fatal(err)
		}
		if !got.PublicKey().Equal(k.PublicKey()) || !bytes.Equal(got.Secret(), k.Secret()) {
			t.Errorf("%s: another key came back", typ)
		}
	}
}

func TestFormatIsAsDocumented(t *testing.T) {
	k, err := decode([]byte(rfcFile))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rfcFile, string(k.Encode())); diff != "" {
		t.Error(diff)
	}
}

func TestOpenModes(t *testing.T) {
	dir := t.TempDir()
	credentials := filepath.Join(dir, "credentials")
	tests := []struct {
		path string
		mode fs.FileMode
		ok   bool
	}{
		{"key", 0o600, true},
		{"key", 0o400, true},
		{"key", 0o640, false},
		{"key", 0o440, false},
		{"key", 0o604, false},
		{"key", 0o700, false},
		{"credentials/key", 0o400, true},
		{"credentials/key", 0o440, true},
		{"credentials/sub/key", 0o440, true},
		{"credentials/key", 0o444, false},
		{"credentials/key", 0o460, false},
		{"credentialsx/key", 0o440, false},
	}
	for _, tt := range tests {
		path := filepath.Join(dir, tt.path)
		write(t, path, rfcFile, tt.mode)
		_, err := Open(path, credentials)
		if (err == nil) != tt.ok {
			t.Errorf("Open(%s) with mode %04o = %v", tt.path, tt.mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("the error names no cure: %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A link is followed, and what counts is the file that it leads to.
func TestOpenThroughLinks(t *testing.T) {
	dir := t.TempDir()
	credentials := filepath.Join(dir, "credentials")
	write(t, filepath.Join(dir, "good"), rfcFile, 0o600)
	write(t, filepath.Join(dir, "loose"), rfcFile, 0o440)
	write(t, filepath.Join(credentials, "key"), rfcFile, 0o440)
	for link, target := range map[string]string{
		"to-good": "good", "to-loose": "loose", "to-key": "credentials/key",
		"credentials/out": "../loose", "dangling": "nothing",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for link, ok := range map[string]bool{
		"to-good": true, "to-loose": false, "to-key": true, "credentials/out": false, "dangling": false,
	} {
		if _, err := Open(filepath.Join(dir, link), credentials); (err == nil) != ok {
			t.Errorf("Open(%s) = %v", link, err)
		}
	}
}

func TestOpenRefusesAnothersFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away: run make test as root")
	}
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, rfcFile, 0o600)
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, ""); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("Open = %v", err)
	}
	// An import runs as root over the files of the node's user.
	if _, err := ReadForeign(path, ""); err != nil {
		t.Errorf("ReadForeign = %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	if _, err := Open(missing, ""); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "\nput it back from its backup") {
		t.Errorf("Open of a missing file = %v", err)
	}
	for path, want := range map[string]string{pipe: "not a regular file", dir: "not a regular file"} {
		if _, err := Open(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s) = %v, want an error with %q", path, err, want)
		}
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
		{"huge", rfcFile + strings.Repeat("x", maxFileSize), "a key file has at most 65536"},
	}
	secret := mustImport(t, []byte(rfcFile), "").Secret()
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, tt.file, 0o600)
		_, err := Open(path, "")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Open = %v, want an error with %q", tt.name, err, tt.want)
		}
		if err != nil && (leaks(err.Error(), secret) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: the error shows the secret or names no file: %v", tt.name, err)
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
		k, err := decode(data)
		if err != nil {
			return
		}
		if !bytes.Equal(k.Encode(), data) {
			t.Fatalf("%q was read, and written as %q", data, k.Encode())
		}
	})
}
