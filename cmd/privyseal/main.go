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
	"strings"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/migrate"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the exit.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, "privyseal: "+strings.ReplaceAll(text, "\n", "\nprivyseal: "))
	}
	return exitStatus(err)
}

// usageError is a command line or a config that cannot be meant: exit status 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// actError is a refusal until an operator has looked and acted, which no
// restart cures: exit status 3.
type actError struct{ err error }

func (e actError) Error() string { return e.err.Error() }
func (e actError) Unwrap() error { return e.err }

func actf(format string, args ...any) error {
	return actError{fmt.Errorf(format, args...)}
}

// exitStatus maps an error to the status that scripts and the systemd unit
// (RestartPreventExitStatus=2 3) rely on.
func exitStatus(err error) int {
	var usage usageError
	var act actError
	var mistakes *config.Error
	var noState *migrate.StateError
	var live *migrate.LiveError
	switch {
	case errors.As(err, &usage), errors.As(err, &mistakes):
		return 2
	case errors.As(err, &act), errors.As(err, &noState), errors.As(err, &live), isStateRefusal(err):
		return 3
	}
	return 1
}

// isStateRefusal reports whether a state file is refused for good. A locked
// one is not: its owner may end.
func isStateRefusal(err error) bool {
	for _, reason := range []error{
		filestore.ErrMissing, filestore.ErrUnsafe, filestore.ErrDamaged, filestore.ErrForeign,
		filestore.ErrCopied, filestore.ErrExported, filestore.ErrExists, filestore.ErrBelow,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
