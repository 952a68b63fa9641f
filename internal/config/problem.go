package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake.
type Problem struct {
	Line int // from 1; 0 is the file as a whole
	Text string
	Next string // what to do, where the text does not say it; "" otherwise
}

// Error holds the mistakes of a config file, sorted by line.
type Error struct {
	Path     string
	Problems []Problem
}

// Error returns one line a mistake, each with file and line, and its cure on a line
// of its own.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.Path, p.Line, p.Text)
		if p.Line == 0 {
			lines[i] = fmt.Sprintf("%s: %s", e.Path, p.Text)
		}
		if p.Next != "" {
			lines[i] += "\n" + p.Next
		}
	}
	return strings.Join(lines, "\n")
}

func newError(path string, problems []Problem) *Error {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{Path: path, Problems: slices.Compact(problems)}
}

// at joins names and indices to a path.
func at(parts ...any) string {
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, ".")
}

// lineOf returns the line of path or of the nearest key above it.
func lineOf(lines map[string]int, path string) int {
	for path != "" {
		if line, found := lines[path]; found {
			return line
		}
		path = path[:max(0, strings.LastIndexByte(path, '.'))]
	}
	return 0
}
