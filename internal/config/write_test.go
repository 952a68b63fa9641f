package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// While a config is written nobody else who locks the folder writes it too.
func TestConfigIsLocked(t *testing.T) {
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
	failed := errors.New("not written")
	err := locked(path, func() error {
		if err := lock(); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("the folder is not locked: %v", err)
		}
		return failed
	})
	if err != failed {
		t.Errorf("%v", err)
	}
	if err := lock(); err != nil {
		t.Errorf("the folder stays locked: %v", err)
	}
}

// What a crash has left beside a config goes with the next writing.
func TestConfigSweepsTheCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	for _, write := range []func() error{
		func() error { return WriteNew(path, fileKinds.New(newChain("a"))) },
		func() error { return fileKinds.Append(path, nil, newChain("b")) },
	} {
		left := path + ".new0123abcd"
		if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
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
			if err := fileKinds.Append(path, nil, newChain(fmt.Sprint("c", i))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if c, err := fileKinds.Load(path); err != nil || len(c.Chains) != 1+n {
		t.Errorf("%v, %v", c, err)
	}
}
