package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
)

// TestExitStatus is the table of doc/operations.md: what asks for an operator
// stops the unit, and what may pass does not, whatever it was wrapped in.
func TestExitStatus(t *testing.T) {
	path := func(err error) error { return &fs.PathError{Op: "open", Path: "x", Err: err} }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{usagef("x"), 64},
		{fmt.Errorf("x: %w", usagef("x")), 64},
		{configError{path(syscall.ENOENT)}, 78},
		{configError{path(syscall.EACCES)}, 78},
		{&config.Error{}, 78},
		{configError{path(syscall.EMFILE)}, 1},
		{configError{path(syscall.EIO)}, 1},
		{actf("x"), 79},
		{filestore.ErrMissing, 79},
		{fmt.Errorf("x: %w", filestore.ErrDamaged), 79},
		{filestore.ErrLocked, 1},
		{actError{path(syscall.ENOENT)}, 79},
		{actError{path(syscall.EIO)}, 1},
		{actError{path(syscall.ENOMEM)}, 1},
		{actError{path(syscall.ENFILE)}, 1},
		// Two chains: the one that may pass is worth another start.
		{actError{errors.Join(filestore.ErrMissing, path(syscall.EMFILE))}, 1},
		{actError{errors.Join(filestore.ErrMissing, filestore.ErrDamaged)}, 79},
	} {
		if got := exitStatus(c.err); got != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got, c.want)
		}
	}
}
