package sharedmark

import (
	"errors"
	"fmt"
)

// The reasons for which a shared mark is not used, or a request to it refused. They come
// wrapped in an *[Error].
var (
	ErrMissing  = errors.New("there is no mark")
	ErrUnjoined = errors.New("there is a mark, and this host has not joined it")
	ErrExists   = errors.New("there is a mark already, and it is never overwritten")
	ErrForeign  = errors.New("it belongs to another chain or key, or to another program")
	ErrDamaged  = errors.New("it is damaged")
	ErrPlace    = errors.New("this host knows the mark at another place of the database")
	ErrRestored = errors.New("it was restored or changed by another program, and may be older than what the key has signed")
	ErrExported = errors.New("it was exported, and lives elsewhere")
	ErrTwin     = errors.New("another signer writes under the identity of this one: this host or its state was cloned")
	ErrBelow    = errors.New("the mark is below the shared one, which is never lowered")
)

// What an engine says with its errors.
var (
	// ErrNotSent says that nothing was written, and that nothing will be.
	ErrNotSent = errors.New("it was not written")
	// ErrRefused says that every way would give the same answer.
	ErrRefused = errors.New("it was refused")
	// ErrOther says that it is another database than the config pins.
	ErrOther = errors.New("it was made again, or restored from a backup, and may be older than what the key has signed")
)

var (
	errUnloaded = errors.New("a write has failed and its outcome is unknown: it has to be loaded again")
	errOutcome  = errors.New("the outcome of a write is unknown: another signer wrote after it, or in its place")
)

// Error is why a shared mark is not used.
type Error struct {
	Op     string // "load", "write", "create", …
	Err    error  // one of the reasons above, or that of the engine or the floor
	Detail string // more for the operator, or empty
}

func (e *Error) Error() string {
	s := "cannot " + e.Op + " the shared mark: " + e.Err.Error()
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// fault is an Error in the making: those who find it do not know the operation. It is
// final: no other way to the value would help.
type fault struct {
	err    error
	detail string
}

func (f *fault) Error() string { return f.err.Error() }

func (f *fault) Unwrap() error { return f.err }

func refuse(reason error, format string, args ...any) error {
	return &fault{reason, fmt.Sprintf(format, args...)}
}

// explain makes an *Error of err for a caller of op.
func explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return &Error{op, f.err, f.detail}
	}
	return &Error{Op: op, Err: err}
}
