package provider

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

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
func TestCreateFile(t *testing.T) {
	key, dir := generate(t), t.TempDir()
	path := filepath.Join(dir, "a", "b", "key")
	if err := CreateFile(path, key); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Join(dir, "a"): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if public, err := PublicOf(path); err != nil || !public.Equal(key.PublicKey()) {
		t.Errorf("another key came back: %v, %v", public, err)
	}
	dangling := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "target"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{path, dangling} {
		if err := CreateFile(taken, generate(t)); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "never overwritten") {
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
