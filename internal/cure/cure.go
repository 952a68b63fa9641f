// Package cure joins what failed with what an operator does about it: the cure, on a
// line of its own, so that it is found, and a command in it pasted, without reading
// the sentence before.
//
// It only writes text. Whether a cure is right is for the tests of those who add it.
package cure

import (
	"fmt"
	"strings"

	"privyseal/internal/shell"
)

// Error is a failure with its cure.
type Error struct {
	Err  error
	Next string // what to do: one line, a command in it as [Command] writes it
}

// Error returns the failure, a line feed, and the cure. Nothing may be put after it in
// the text of another error; in front it may, as in fmt.Errorf("cannot …: %w", err).
func (e *Error) Error() string { return e.Err.Error() + "\n" + e.Next }

func (e *Error) Unwrap() error { return e.Err }

// Add returns err with a cure, and nil for nil. Format and args are those of
// fmt.Sprintf.
func Add(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{err, fmt.Sprintf(format, args...)}
}

// Split returns what failed and, without the line feed between them, the cure: ""
// where the text of an error has none.
func Split(text string) (failed, next string) {
	failed, next, _ = strings.Cut(text, "\n")
	return failed, next
}

// Count returns a number of things that are called by a noun whose plural ends in s.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Command returns a command line in backticks, each of its words quoted where a shell
// would take it for something else.
func Command(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shell.Word(w)
	}
	return "`" + strings.Join(quoted, " ") + "`"
}

// Size writes a number of bytes for people.
func Size(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
