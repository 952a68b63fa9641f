package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
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

// writers are what writes a config; each leaves it with the chain "b".
func writers(t *testing.T) map[string]func(path string) error {
	return map[string]func(path string) error{
		"WriteNew": func(path string) error { return WriteNew(path, fileKinds.New(newChain("b"))) },
		"AppendChains": func(path string) error {
			if err := os.WriteFile(path, fileKinds.New(newChain("a")).Render(), 0o600); err != nil {
				t.Fatal(err)
			}
			return fileKinds.AppendChains(path, newChain("b"))
		},
	}
}

// has reports whether the file at path is whole and has the chain "b".
func has(path string) bool {
	c, err := fileKinds.Load(path)
	return err == nil && len(c.Find("b")) == 1
}

// A config is durable before its name leads to it, and its name is when we return.
func TestConfigIsDurable(t *testing.T) {
	for name, write := range writers(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			var calls []string
			onSync(t, func(f *os.File) error {
				what := "something else"
				switch f.Name() {
				case path + ".new":
					what = fmt.Sprintf("the new file: whole %t, in place %t", has(f.Name()), has(path))
				case filepath.Dir(path):
					what = fmt.Sprintf("the folder: in place %t", has(path))
				}
				calls = append(calls, what)
				return nil
			})
			if err := write(path); err != nil {
				t.Fatal(err)
			}
			if want := []string{"the new file: whole true, in place false", "the folder: in place true"}; !slices.Equal(calls, want) {
				t.Errorf("synced %q, want %q", calls, want)
			}
		})
	}
}

// What is not durable is not put in place; a folder that cannot be synced is told.
func TestConfigWhenADiskFails(t *testing.T) {
	for name, write := range writers(t) {
		for n, inPlace := range []bool{false, true} { // the file's sync, the folder's
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), FileName)
				calls := 0
				onSync(t, func(*os.File) error {
					calls++
					if calls == n+1 {
						return syscall.EIO
					}
					return nil
				})
				if err := write(path); !errors.Is(err, syscall.EIO) {
					t.Errorf("the failure is lost: %v", err)
				}
				if has(path) != inPlace {
					t.Errorf("in place: %t", has(path))
				}
				if _, err := os.Lstat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the temporary file is left: %v", err)
				}
			})
		}
	}
}

// While a config is written nobody else who locks the folder writes it too.
func TestConfigIsLocked(t *testing.T) {
	for name, write := range writers(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			lock := func() error {
				dir, err := os.Open(filepath.Dir(path))
				if err != nil {
					return err
				}
				defer dir.Close()
				// Not even a lock that is shared is to be had beside ours.
				return syscall.Flock(int(dir.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
			}
			syncs := 0
			onSync(t, func(*os.File) error {
				syncs++
				if err := lock(); !errors.Is(err, syscall.EWOULDBLOCK) {
					t.Errorf("the folder is not locked: %v", err)
				}
				return nil
			})
			if err := write(path); err != nil || syncs == 0 {
				t.Errorf("%v, %d syncs", err, syncs)
			}
			if err := lock(); err != nil {
				t.Errorf("the folder stays locked: %v", err)
			}
		})
	}
}

// Of several at once that add a chain each, none takes that of another away.
func TestAppendAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := WriteNew(path, fileKinds.New(newChain("a"))); err != nil {
		t.Fatal(err)
	}
	const n = 8
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if err := fileKinds.AppendChains(path, newChain(fmt.Sprint("c", i))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if c, err := fileKinds.Load(path); err != nil || len(c.Chains) != 1+n {
		t.Errorf("%v, %v", c, err)
	}
}
