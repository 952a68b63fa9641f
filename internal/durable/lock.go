package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another process has the lock.
var ErrLocked = errors.New("another process has it locked")

// ErrIrregular says that what is at a path is no file.
var ErrIrregular = errors.New("it is not a regular file")

// Lock opens the file at path, made empty if there is none, and locks it until it is
// closed. Whoever has it may remove it: the name then leads to nothing, or to another one.
func Lock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		held, err := f.Stat()
		if err == nil && !held.Mode().IsRegular() {
			err = fmt.Errorf("%s: %w", path, ErrIrregular)
		}
		if err == nil {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%s: %w", path, ErrLocked)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		// Who held it before us may have removed it.
		if there, err := os.Stat(path); err == nil && os.SameFile(held, there) {
			return f, nil
		}
		f.Close()
	}
}
