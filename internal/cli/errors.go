package cli

import "fmt"

// The exit statuses that scripts and the systemd units rely on. They follow
// sysexits.h where it has a word for it, and lie above what the Go runtime uses:
// a panic is 2, and a crash is worth another start. The comments are what
// doc/reference/commands.md says of each.
const (
	Done        = 0  // done; the unit starts it again
	Failed      = 1  // failed, and it may pass: a state that another process holds, no descriptor or memory left, a disk that fails; the unit starts it again
	WrongUsage  = 64 // wrong usage, a flag or an argument; the unit waits for an operator
	WrongConfig = 78 // wrong config; the unit waits for an operator
	MustAct     = 79 // an operator has to act first; the unit waits for that
)

// UsageError is a command line that cannot be meant.
type UsageError struct{ err error }

func (e UsageError) Error() string { return e.err.Error() }

func (e UsageError) Unwrap() error { return e.err }

// Usage returns err as a [UsageError].
func Usage(err error) error { return UsageError{err} }

// Usagef returns what fmt.Errorf does, as a [UsageError].
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// ConfigError is a config that is missing, unreadable or wrong.
type ConfigError struct{ err error }

func (e ConfigError) Error() string { return e.err.Error() }

func (e ConfigError) Unwrap() error { return e.err }

// BadConfig returns err as a [ConfigError].
func BadConfig(err error) error { return ConfigError{err} }

// ActError is a refusal until an operator has looked and acted, which no
// restart cures.
type ActError struct{ err error }

func (e ActError) Error() string { return e.err.Error() }

func (e ActError) Unwrap() error { return e.err }

// Act returns err as an [ActError].
func Act(err error) error { return ActError{err} }

// Actf returns what fmt.Errorf does, as an [ActError].
func Actf(format string, args ...any) error { return ActError{fmt.Errorf(format, args...)} }
