package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/provider"
)

// TestExitStatus is the table of doc/reference/commands.md: what asks for an operator
// stops the unit, and what may pass does not, whatever it was wrapped in.
func TestExitStatus(t *testing.T) {
	path := func(err error) error { return &fs.PathError{Op: "open", Path: "x", Err: err} }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{cli.Usagef("x"), 64},
		{fmt.Errorf("x: %w", cli.Usagef("x")), 64},
		{cli.BadConfig(path(syscall.ENOENT)), 78},
		{cli.BadConfig(path(syscall.EACCES)), 78},
		{&config.Error{}, 78},
		{cli.BadConfig(path(syscall.EMFILE)), 1},
		{cli.BadConfig(path(syscall.EIO)), 1},
		{cli.Actf("x"), 79},
		{provider.ErrMissing, 79},
		{fmt.Errorf("x: %w", provider.ErrDamaged), 79},
		{provider.ErrLocked, 1},
		{cli.Act(path(syscall.ENOENT)), 79},
		{cli.Act(path(syscall.EIO)), 1},
		{cli.Act(path(syscall.ENOMEM)), 1},
		{cli.Act(path(syscall.ENFILE)), 1},
		// Two chains: the one that may pass is worth another start.
		{cli.Act(errors.Join(provider.ErrMissing, path(syscall.EMFILE))), 1},
		{cli.Act(errors.Join(provider.ErrMissing, provider.ErrDamaged)), 79},
	} {
		if got := exitStatus(c.err); got != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got, c.want)
		}
	}
}
