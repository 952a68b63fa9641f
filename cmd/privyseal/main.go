// Command privyseal signs the blocks of CometBFT validators, and never two
// conflicting ones.
//
// This package is the operator's side: one file a sub-command, and the wiring
// of keys, states and nodes. What is signed is decided in internal/signer and
// internal/watermark; nothing here comes between a request and its answer.
//
// Results go to standard output, everything else to standard error. Errors are
// lower-case, start with "privyseal: " and end with the next thing to type.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/migrate"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the exit.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := noSuchCommand(root, args)
	if err == nil {
		err = root.Execute()
	}
	if err == nil {
		return statusDone
	}
	if text := err.Error(); text != "" {
		io.WriteString(stderr, screenOf(stderr).complaint(text))
	}
	return exitStatus(err)
}

// The exit statuses that scripts and the systemd units rely on. They follow
// sysexits.h where it has a word for it, and lie above what the Go runtime uses:
// a panic is 2, and a crash is worth another start.
const (
	statusDone   = 0
	statusFailed = 1  // it may pass: the unit starts again
	statusUsage  = 64 // EX_USAGE
	statusConfig = 78 // EX_CONFIG
	statusAct    = 79 // no restart cures it
)

// usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// configError is a config that is missing, unreadable or wrong.
type configError struct{ err error }

func (e configError) Error() string { return e.err.Error() }
func (e configError) Unwrap() error { return e.err }

// actError is a refusal until an operator has looked and acted, which no
// restart cures.
type actError struct{ err error }

func (e actError) Error() string { return e.err.Error() }
func (e actError) Unwrap() error { return e.err }

func actf(format string, args ...any) error {
	return actError{fmt.Errorf(format, args...)}
}

// exitStatus maps an error to the status of the process.
func exitStatus(err error) int {
	var usage usageError
	var wrong configError
	var mistakes *config.Error
	var act actError
	var refused *home.Refusal
	var noState *migrate.StateError
	var live *migrate.LiveError
	switch {
	case err == nil:
		return statusDone
	case mayPass(err):
		return statusFailed
	case errors.As(err, &usage):
		return statusUsage
	case errors.As(err, &wrong), errors.As(err, &mistakes):
		return statusConfig
	case errors.As(err, &act), errors.As(err, &refused), errors.As(err, &noState), errors.As(err, &live), isStateRefusal(err):
		return statusAct
	}
	return statusFailed
}

// passing are the errors of the system that are gone when a disk, a limit or
// another process lets go: the next start may succeed without an operator.
var passing = []error{
	syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EDQUOT,
	syscall.EAGAIN, syscall.EINTR, syscall.EBUSY, syscall.ETIMEDOUT, syscall.ENOBUFS,
	filestore.ErrLocked, filestore.ErrTwin,
}

// mayPass reports whether err, or one of several that it joins, may be gone at the
// next attempt.
func mayPass(err error) bool {
	return slices.ContainsFunc(passing, func(reason error) bool { return errors.Is(err, reason) })
}

// isStateRefusal reports whether a state file is refused for good. A locked
// one is not: its owner may end.
func isStateRefusal(err error) bool {
	for _, reason := range []error{
		filestore.ErrMissing, filestore.ErrUnsafe, filestore.ErrDamaged, filestore.ErrForeign,
		filestore.ErrCopied, filestore.ErrRestored, filestore.ErrExported, filestore.ErrExists, filestore.ErrBelow,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
