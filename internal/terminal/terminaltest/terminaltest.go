//go:build linux

// Package terminaltest is a terminal for tests, with a person who reads and types: a
// pseudo-terminal of the kernel, and what a real one would keep of its output. No program
// imports it.
package terminaltest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long a text is waited for that does not come.
const Patience = 30 * time.Second

// Terminal is a terminal.
type Terminal struct {
	Path string   // of the terminal, for programs
	Tty  *os.File // the same, open

	t      testing.TB
	master *os.File

	mu    sync.Mutex // guards what follows
	all   []byte     // that was written
	read  int        // of all, by Reads
	more  chan struct{}
	ended bool // nothing more comes
}

// New opens a terminal, until the test ends.
func New(t testing.TB) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	term := &Terminal{Path: fmt.Sprintf("/dev/pts/%d", number), t: t, master: master, more: make(chan struct{})}
	if term.Tty, err = os.OpenFile(term.Path, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		term.collect()
	}()
	t.Cleanup(func() {
		term.Tty.Close() // the reader gets EIO then
		<-done
		master.Close()
	})
	return term
}

// collect reads until the terminal is closed.
func (t *Terminal) collect() {
	buffer := make([]byte, 4096)
	for {
		n, err := t.master.Read(buffer)
		t.mu.Lock()
		t.all = append(t.all, buffer[:n]...)
		t.ended = t.ended || err != nil
		close(t.more)
		t.more = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Reads waits until a text is written after what was read before, and returns what stood
// between.
func (t *Terminal) Reads(text string) string {
	t.t.Helper()
	timeout := time.After(Patience)
	for {
		t.mu.Lock()
		rest, more, ended := t.all[t.read:], t.more, t.ended
		if i := bytes.Index(rest, []byte(text)); i >= 0 {
			t.read += i + len(text)
			t.mu.Unlock()
			return string(rest[:i])
		}
		t.mu.Unlock()
		if !ended {
			select {
			case <-more:
				continue
			case <-timeout:
			}
		}
		t.t.Fatalf("%q was not written, but\n%s", text, rest)
	}
}

// Starts says that a program is started at the terminal. What was written before is read.
func (t *Terminal) Starts() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read, t.ended = len(t.all), false
}

// ends is an order that no terminal knows.
const ends = "\x1b[9999z"

// Ends says that the program has ended, so that Reads does not wait for more of it.
func (t *Terminal) Ends() {
	t.mu.Lock()
	from := len(t.all)
	t.mu.Unlock()
	if _, err := t.Tty.WriteString(ends); err != nil {
		return // the test has ended
	}
	for {
		t.mu.Lock()
		more, there := t.more, bytes.Contains(t.all[from:], []byte(ends))
		t.ended = t.ended || there
		if there {
			close(t.more)
			t.more = make(chan struct{})
		}
		ended := t.ended
		t.mu.Unlock()
		if ended {
			return
		}
		<-more
	}
}

// Types types a text. Return is "\r".
func (t *Terminal) Types(text string) {
	t.t.Helper()
	if _, err := t.master.WriteString(text); err != nil {
		t.t.Fatal(err)
	}
}

// Resize makes the window one of so many lines and columns. At first it does not know its size.
func (t *Terminal) Resize(rows, columns uint16) {
	t.t.Helper()
	if err := unix.IoctlSetWinsize(int(t.Tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.t.Fatal(err)
	}
}

// Echoes reports whether what is typed is shown now.
func (t *Terminal) Echoes() bool {
	t.t.Helper()
	m, err := unix.IoctlGetTermios(int(t.Tty.Fd()), unix.TCGETS)
	if err != nil {
		t.t.Fatal(err)
	}
	return m.Lflag&unix.ECHO != 0
}

// Written returns all that was written.
func (t *Terminal) Written() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.all)
}

// Keeps returns what the screen and its scrollback hold: nothing that was written to the
// alternate screen, nor what was cleared. Where the cursor stands does not matter to it.
func (t *Terminal) Keeps() string {
	var kept, last strings.Builder
	rest, alternate := t.Written(), false
	for rest != "" {
		text, order, found := strings.Cut(rest, "\x1b[")
		if !alternate {
			last.WriteString(text)
		}
		if !found {
			break
		}
		end := strings.IndexFunc(order, func(r rune) bool { return r >= '@' && r <= '~' })
		switch order[:end+1] {
		case "?1049h":
			alternate = true
		case "?1049l":
			alternate = false
		case "2J": // what has scrolled away is still there
			if lines := strings.SplitAfter(last.String(), "\n"); !alternate {
				kept.WriteString(strings.Join(lines[:max(0, len(lines)-screenLines)], ""))
				last.Reset()
			}
		}
		rest = order[end+1:]
	}
	return kept.String() + last.String()
}

// screenLines is how many lines the screen has.
const screenLines = 50
