package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a terminal of some columns: what a program has
// for its output, and what a person sees.
func openTerminal(t *testing.T, columns uint16) (program, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here, and `make test` cannot make one: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here, and `make test` cannot make one: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return program, person
}

// onTerminal runs a command in a terminal of some columns and returns what a person
// sees.
func onTerminal(t *testing.T, columns uint16, args ...string) string {
	t.Helper()
	program, person := openTerminal(t, columns)
	seen := make(chan string)
	go func() {
		text, _ := io.ReadAll(person) // ends with EIO when the program's end is closed
		seen <- string(text)
	}()
	run(args, program, program)
	program.Close()
	select {
	case text := <-seen:
		return strings.ReplaceAll(text, "\r\n", "\n")
	case <-time.After(time.Minute):
		t.Fatal("the terminal does not end")
		return ""
	}
}

// On a terminal there are colours, unless its user does not want them, and lines
// that fit.
func TestTerminal(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "a-home-folder-that-nobody-has-made-yet", "and-one-in-it")
	for _, tt := range []struct {
		name, term, noColor string
		colour              bool
	}{
		{"colours", "xterm-256color", "", true},
		{"NO_COLOR", "xterm-256color", "1", false},
		{"NO_COLOR may say anything", "xterm-256color", "0", false},
		{"a dumb terminal", "dumb", "", false},
		{"a terminal without a name", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.term)
			t.Setenv("NO_COLOR", tt.noColor)
			for _, command := range []string{"check", "status"} {
				text := onTerminal(t, 60, command, "--home", missing)
				if got := strings.Contains(text, "\x1b["); got != (tt.colour && command == "check") {
					t.Errorf("%s: colours: %t\n%s", command, got, text)
				}
				if !strings.Contains(text, "`privyseal ") {
					t.Errorf("%s: the next command is not there:\n%s", command, text)
				}
				for line := range strings.Lines(strings.NewReplacer("\x1b[1;31m", "", "\x1b[0m", "").Replace(text)) {
					line = strings.TrimPrefix(strings.TrimSpace(line), "-> ")
					if utf8.RuneCountInString(line) > 60 && len(strings.Fields(quoted.ReplaceAllString(line, "_"))) > 1 {
						t.Errorf("%s: a line of %d columns: %s", command, utf8.RuneCountInString(line), line)
					}
				}
			}
		})
	}
}

// quoted is what is in backticks, which is not broken.
var quoted = regexp.MustCompile("`[^`]*`")
