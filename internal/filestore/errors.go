package filestore

import (
	"errors"
	"fmt"
	"strings"

	"privyseal/internal/shell"
)

// The reasons for which a state file is not used, or a request to it refused.
// They come wrapped in an *[Error].
var (
	ErrMissing  = errors.New("there is no such file")
	ErrExists   = errors.New("the file exists already, and state is never overwritten")
	ErrLocked   = errors.New("another process has it open")
	ErrTwin     = errors.New("another signer on this host signs for the same chain and key, with another state")
	ErrUnsafe   = errors.New("it is not safe to use")
	ErrDamaged  = errors.New("it is damaged")
	ErrForeign  = errors.New("it belongs to another chain or key")
	ErrCopied   = errors.New("it was copied or restored, and may be older than what the key has signed")
	ErrRestored = errors.New("it was restored or changed by another program, and may be older than what the key has signed")
	ErrExported = errors.New("it was exported, and lives on another host")
	errReplaced = errors.New("its path leads to another file now")
	ErrBelow    = errors.New("the mark is below the one in the state, which is never lowered")
	errUnloaded = errors.New("a write has failed and its outcome is unknown: it has to be loaded again")
	ErrPlatform = errors.New("file state is kept on Linux only")
)

// Error is why a state file is not used.
type Error struct {
	Op     string // "open", "load", "write", …
	Path   string
	Err    error  // one of the reasons above, or the system's error
	Detail string // more for the operator, or empty
	Cure   string // what to do next, or empty; it is on a line of its own
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot %s state %s: %v", e.Op, e.Path, e.Err)
	if e.Detail != "" {
		fmt.Fprintf(&b, " (%s)", e.Detail)
	}
	if e.Cure != "" {
		fmt.Fprintf(&b, "\n%s", e.Cure)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// fault is an Error in the making: those who find it know neither operation nor
// path.
type fault struct {
	err    error
	detail string
	cure   string
}

func (f *fault) Error() string { return f.err.Error() }

func (f *fault) Unwrap() error { return f.err }

// explain makes an *Error of err for an operator who called op, with the
// command that repairs it.
func (c *Config) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	e := &Error{Op: op, Path: c.Path, Err: err}
	var f *fault
	if errors.As(err, &f) {
		e.Err, e.Detail, e.Cure = f.err, f.detail, f.cure
	}
	if e.Cure == "" {
		e.Cure = Cure(c.ID.ChainID, e.Err)
	}
	return e
}

// Cure returns the next step after one of the reasons above, for the state of a
// chain, or "" if nobody knows one.
func Cure(chainID string, reason error) string {
	state := func(command, args string) string {
		return fmt.Sprintf("`privyseal state %s --chain-id %s%s`", command, shell.Word(chainID), args)
	}
	again := state("init", " --after-height H") + " with a height H well above everything that the chain has reached"
	switch {
	case errors.Is(reason, ErrMissing):
		return "run " + state("init", " --fresh-state") + " if this key has never signed for this chain, " +
			state("import", " FILE") + " if its state was exported elsewhere, or else " + again
	case errors.Is(reason, ErrExists):
		return "look at it with " + state("show", "")
	case errors.Is(reason, ErrLocked):
		return "stop the `privyseal start` that has it open, or wait for it with `privyseal start --standby`"
	case errors.Is(reason, ErrTwin):
		return "end the other `privyseal start`, of another home or a copy of this one, for good"
	case errors.Is(reason, ErrDamaged):
		return "keep the file, move it aside, and run " + state("import", " FILE") + " or " + again
	case errors.Is(reason, ErrForeign):
		return "correct chain id, key or state in the config; " + state("show", "") + " shows what the file is"
	case errors.Is(reason, ErrCopied), errors.Is(reason, ErrRestored):
		return "run " + state("adopt", "") + " if no other copy signs and nothing was signed since this one was made"
	case errors.Is(reason, ErrExported):
		return "bring it back with " + state("import", " FILE") + " from the host that has it now"
	case errors.Is(reason, errReplaced):
		return "put the file back where it was, or restart privyseal to use the other one"
	}
	return ""
}
