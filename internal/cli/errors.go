package cli

import "fmt"

// The exit statuses that scripts and the systemd units rely on. They follow
// sysexits.h where it has a word for it, and lie above what the Go runtime uses:
// a panic is 2, and a crash is worth another start.
const (
	Done        = 0
	Failed      = 1  // it may pass: the unit starts again
	WrongUsage  = 64 // EX_USAGE
	WrongConfig = 78 // EX_CONFIG
	MustAct     = 79 // no restart cures it
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
