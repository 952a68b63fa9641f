package soft

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"privyseal/internal/pubkey"
)

// onSync has f called before each sync; if f returns an error, the sync fails.
func onSync(t *testing.T, f func(file *os.File) error) {
	real := fsync
	t.Cleanup(func() { fsync = real })
	fsync = func(file *os.File) error {
		if err := f(file); err != nil {
			return err
		}
		return real(file)
	}
}

// A key is on disk, with its name and those of new folders, when Create returns. A key
// of which that is not certain must not be told to a chain.
func TestCreateIsDurable(t *testing.T) {
	k := one(t, pubkey.Ed25519)
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "key")
	var calls []string
	onSync(t, func(f *os.File) error {
		name, err := filepath.Rel(dir, f.Name())
		if err != nil {
			t.Error(err)
		}
		calls = append(calls, name)
		if name == "a/b/key" {
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, encode(k)) {
				t.Errorf("synced before it is whole: %d bytes, %v", len(data), err)
			}
		}
		return nil
	})
	if err := Create(path, k); err != nil {
		t.Fatal(err)
	}
	// Each folder is synced once what is new in it is there.
	if want := []string{".", "a", "a/b/key", "a/b"}; !slices.Equal(calls, want) {
		t.Errorf("synced %q, want %q", calls, want)
	}
	for n, name := range calls {
		t.Run(name, func(t *testing.T) { failingSync(t, k, n, n == 3) }) // at last only its name may be lost
	}
}

// failingSync fails the sync number n of Create; left is whether the key stays.
func failingSync(t *testing.T, k *Key, n int, left bool) {
	path := filepath.Join(t.TempDir(), "a", "b", "key")
	calls := 0
	onSync(t, func(*os.File) error {
		calls++
		if calls == n+1 {
			return syscall.EIO
		}
		return nil
	})
	if err := Create(path, k); !errors.Is(err, syscall.EIO) {
		t.Errorf("the failure is lost: %v", err)
	}
	if _, err := os.Lstat(path); left != (err == nil) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}
