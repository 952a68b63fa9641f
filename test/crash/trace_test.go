//go:build linux

package crash

import (
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// call is a system call as strace writes it down.
type call struct {
	name string
	// args are as written, but for strings, which are what they stand for.
	args []string
	// result is what it returned, -1 after an error. A call in which the process
	// was killed was not made.
	result int
	killed bool
}

// parseLine reads a line of strace: a name, arguments, and a result, or none if
// the process was killed in the call.
func parseLine(t *testing.T, s string) call {
	t.Helper()
	left, result, done := s, "?", false
	if i := strings.LastIndex(s, " = "); i >= 0 {
		left, result, done = strings.TrimRight(s[:i], " "), s[i+3:], true
		left, done = strings.CutSuffix(left, ")")
	} else if i := strings.LastIndex(s, " <"); i >= 0 { // <unfinished ...> or <detached ...>
		left, done = strings.TrimRight(s[:i], ", "), true
	}
	name, args, ok := strings.Cut(left, "(")
	if !ok || !done {
		t.Fatalf("strace wrote: %.300s", s)
	}
	c := call{name: name, killed: strings.HasPrefix(result, "?")}
	if !c.killed {
		number, _, _ := strings.Cut(result, " ")
		n, err := strconv.ParseInt(number, 0, 64)
		switch {
		case err == nil:
			c.result = int(n)
		case number == "18446744073709551615": // the kernel's mark for a call that it skips
			c.killed = true
		default:
			t.Fatalf("strace wrote: %.300s", s)
		}
	}
	for _, arg := range strings.Split(args, ", ") {
		c.args = append(c.args, unquote(t, arg))
	}
	return c
}

// parseTrace reads the trace of one thread. first is the index of the first call
// that touches the state or its directory, or -1.
func parseTrace(t *testing.T, text, path string) (calls []call, first int) {
	t.Helper()
	first = -1
	for _, s := range strings.Split(strings.TrimSpace(text), "\n") {
		if s == "" || strings.HasPrefix(s, "---") || strings.HasPrefix(s, "+++") || strings.HasPrefix(s, "???") {
			continue
		}
		c := parseLine(t, s)
		if first < 0 && touches(c, path) {
			first = len(calls)
		}
		calls = append(calls, c)
	}
	return calls, first
}

// touches reports whether c names the state, or the directory that it is, or
// will be, in.
func touches(c call, path string) bool {
	for _, arg := range c.args {
		if arg == path || arg == filepath.Dir(path) {
			return true
		}
	}
	return false
}

// unquote returns the bytes of a string that strace wrote as "\x2f\x74…".
func unquote(t *testing.T, arg string) string {
	t.Helper()
	if len(arg) < 2 || arg[0] != '"' || arg[len(arg)-1] != '"' {
		return arg
	}
	b, err := hex.DecodeString(strings.ReplaceAll(arg[1:len(arg)-1], `\x`, ""))
	if err != nil {
		t.Fatalf("strace wrote: %.100s: %v", arg, err)
	}
	return string(b)
}

// number returns argument i, which is one.
func (c *call) number(t *testing.T, i int) int {
	t.Helper()
	n, err := strconv.Atoi(c.args[i])
	if err != nil {
		t.Fatalf("%s, argument %d: %v", c.name, i, err)
	}
	return n
}
