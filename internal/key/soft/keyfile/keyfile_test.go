package keyfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// The key of RFC 8032, test 1, in our format and in CometBFT's.
const rfcFile = `privyseal software key 1
type ed25519
public 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
secret nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=
`

const rfcJSON = `{"address":"21FE31DFA154A261626BF854046FD2271B7BED4B","pub_key":{"type":"tendermint/PubKeyEd25519","value":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="},"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="}}`

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
		k, err := soft.Generate(typ)
		if err != nil {
			t.Fatal(err)
		}
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
	torn, huge, other := filepath.Join(dir, "torn"), filepath.Join(dir, "huge"), filepath.Join(dir, "other")
	write(t, other, "privyseal vault key 1\nname a\n", 0o600)
	write(t, torn, rfcFile[:100], 0o600)
	write(t, huge, rfcFile+strings.Repeat("x", soft.MaxFileSize), 0o600)
	for path, want := range map[string]string{
		pipe: "not a regular file", dir: "not a regular file", huge: "it has more than 65536 bytes",
		other: `it is of another provider: it begins with "privyseal vault key 1", not with "privyseal software key 1"`,
		torn:  "it is truncated, or not a key file of privyseal\nanother signer's key file is read by `privyseal key import " + torn,
	} {
		if _, err := Open(path, ""); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s) = %v, want an error with %q", path, err, want)
		}
	}
}

func TestReadForeign(t *testing.T) {
	dir := t.TempDir()
	good, loose, missing := filepath.Join(dir, "good"), filepath.Join(dir, "loose"), filepath.Join(dir, "missing")
	write(t, good, rfcJSON, 0o600)
	write(t, loose, rfcJSON, 0o644)
	if k, err := ReadForeign(good, pubkey.Ed25519); err != nil || k.Type() != pubkey.Ed25519 {
		t.Errorf("ReadForeign = %v, %v", k, err)
	}
	if _, err := ReadForeign(loose, ""); err == nil || !strings.Contains(err.Error(), "chmod 600 "+loose) {
		t.Errorf("ReadForeign of a world-readable file = %v", err)
	}
	if _, err := ReadForeign(missing, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadForeign of a missing file = %v", err)
	}
}

func generate(t *testing.T) *soft.Key {
	t.Helper()
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A key file is its owner's alone, like the folders made for it, and is never overwritten,
// not even through a link to nowhere.
func TestCreate(t *testing.T) {
	key, dir := generate(t), t.TempDir()
	path := filepath.Join(dir, "a", "b", "key")
	if err := Create(path, key); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "a"): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if again, err := Open(path, ""); err != nil || !again.PublicKey().Equal(key.PublicKey()) {
		t.Errorf("another key came back: %v", err)
	}
	dangling := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{path, dangling} {
		if err := Create(taken, generate(t)); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("over %s: %v", taken, err)
		}
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, key.Encode()) {
		t.Errorf("the file has changed: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link's target exists: %v", err)
	}
}
