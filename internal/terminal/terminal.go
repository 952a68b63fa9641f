// Package terminal talks to the person at the terminal about secrets: it shows them where no
// pipe, log or scrollback keeps them, and reads them without echo.
//
// It opens the terminal itself, whatever standard input and output are. It trusts the terminal
// to do what it is sent (ECMA-48, and xterm's alternate screen), and says where one is not
// known to do it. It cannot know what a multiplexer, a recorder, or somebody behind the
// person sees.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Controlling is the path of the terminal that a process was started from.
const Controlling = "/dev/tty"

// maxLine bounds a line that is typed, in bytes.
const maxLine = 4096

var (
	// errNone says that there is nobody to talk to.
	errNone = errors.New("there is no terminal")
	// ErrEnded says that nothing more will be typed.
	ErrEnded = errors.New("the terminal was closed, or Control-D was typed")
)

// Terminal is an open terminal.
type Terminal struct {
	file *os.File
	kind kind
	rest []byte // that was typed after the last line that was read
}

// Open opens the terminal at a path; term is the environment's TERM. What is not a terminal is
// refused.
func Open(path, term string) (*Terminal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNone, err)
	}
	if _, err := modes(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("%w: %s is not a terminal", errNone, path)
	}
	return &Terminal{file: file, kind: kindOf(term)}, nil
}

// kind is what a terminal can do.
type kind int

const (
	paper   kind = iota // it takes no orders
	screen              // it has a screen, and perhaps a scrollback that keeps what was there
	screens             // it has another screen, which goes to no scrollback
)

// kindOf returns what terminals of a kind can do, by its name. Where some of them can do less,
// that is the answer.
func kindOf(term string) kind {
	name, _, _ := strings.Cut(term, "-")
	switch name {
	case "", "dumb", "unknown", "emacs", "lpr":
		return paper
	case "linux", "screen", "ansi", "cons25", "sun": // of GNU screen an option has to be set
		return screen
	}
	if strings.HasPrefix(name, "vt") && !strings.HasPrefix(name, "vte") {
		return screen
	}
	return screens
}

// Close closes the terminal. Whoever reads from it gets an error.
func (t *Terminal) Close() error {
	clear(t.rest)
	return t.file.Close()
}

// Say writes lines.
func (t *Terminal) Say(format string, args ...any) error {
	_, err := fmt.Fprintf(t.file, format+"\n", args...)
	return err
}

// Ask returns the line that is typed after a question, without white space around it.
func (t *Terminal) Ask(ctx context.Context, question string) (string, error) {
	if _, err := io.WriteString(t.file, question); err != nil {
		return "", err
	}
	line, err := t.answer(ctx)
	return strings.TrimSpace(string(line)), err
}

// answer returns the line that is typed after a question. Where there is none, what is written
// next stands below the question.
func (t *Terminal) answer(ctx context.Context) ([]byte, error) {
	line, err := t.line(ctx)
	if err != nil {
		io.WriteString(t.file, "\n")
	}
	return line, err
}

// Hidden lets f ask, as often as it likes, for lines that are typed without echo. Echo is
// off until f returns, also between two questions. The lines are the caller's to overwrite.
func (t *Terminal) Hidden(ctx context.Context, f func(ask func(question string) ([]byte, error)) error) error {
	return t.silently(false, func() error {
		return f(func(question string) ([]byte, error) {
			if _, err := io.WriteString(t.file, question); err != nil {
				return nil, err
			}
			line, err := t.answer(ctx)
			if err == nil {
				_, err = io.WriteString(t.file, "\n") // which was not echoed either
			}
			return line, err
		})
	})
}

// Orders of ECMA-48, and of xterm for the screen that has no scrollback.
const (
	clearScreen = "\x1b[H\x1b[2J"
	enterScreen = "\x1b[?1049h" + clearScreen
	leaveScreen = clearScreen + "\x1b[?1049l"
)

// Show shows a text until Return is pressed or ctx ends, and takes it off the screen. What was
// typed before is forgotten. Where the terminal may keep the text, that is said, and the first
// Return shows it.
func (t *Terminal) Show(ctx context.Context, text string) error {
	return t.silently(true, func() error {
		if t.kind != screens {
			if err := t.Say("This terminal may keep what it shows: clear it afterwards, with its scrollback, or press\nControl-C now and use another one. Press Return to go on."); err != nil {
				return err
			}
			if _, err := t.line(ctx); err != nil {
				return err
			}
		}
		if err := t.fit(ctx, text); err != nil {
			return err
		}
		enter, leave := enterScreen, leaveScreen
		if t.kind == paper {
			enter, leave = "\n", "\nIt is still there to read: clear this terminal now, with its scrollback.\n"
		}
		_, err := io.WriteString(t.file, enter+text+"\n")
		if err == nil {
			_, err = t.line(ctx)
		}
		_, leaving := io.WriteString(t.file, leave)
		return errors.Join(err, leaving)
	})
}

// fit waits until the screen has room for a text and the line below it: what scrolls away on
// the alternate screen is gone. A terminal that does not know its size has room.
func (t *Terminal) fit(ctx context.Context, text string) error {
	for t.kind != paper {
		var size *unix.Winsize
		err := control(t.file, func(fd int) (err error) {
			size, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
			return err
		})
		if err != nil || size.Row == 0 || size.Col == 0 {
			return nil
		}
		need := 1
		for line := range strings.Lines(text) {
			need += max(1, (len(strings.TrimRight(line, " \n"))+int(size.Col)-1)/int(size.Col))
		}
		if need <= int(size.Row) {
			return nil
		}
		if err := t.Say("This window has %d lines, and the text needs %d of this width. Make it larger, and press\nReturn.", size.Row, need); err != nil {
			return err
		}
		if _, err := t.line(ctx); err != nil {
			return err
		}
	}
	return nil
}

// silently calls f while the terminal has no echo. flush forgets what was typed before.
func (t *Terminal) silently(flush bool, f func() error) (err error) {
	before, err := modes(t.file)
	if err != nil {
		return err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO | unix.ECHONL
	silent.Lflag |= unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := setModes(t.file, &silent, flush); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setModes(t.file, before, false)) }()
	return f()
}

// line returns the next line that is typed, without its end.
func (t *Terminal) line(ctx context.Context) ([]byte, error) {
	for {
		if line, rest, found := bytes.Cut(t.rest, []byte("\n")); found {
			t.rest = rest
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if len(t.rest) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes was typed", maxLine)
		}
		more, err := t.read(ctx)
		if err != nil {
			return nil, err
		}
		joined := append(make([]byte, 0, len(t.rest)+len(more)), t.rest...)
		clear(t.rest)
		t.rest = append(joined, more...)
		clear(more)
	}
}

// read returns what is typed next. When ctx ends, what is typed afterwards is lost: the
// process has to end, or to close the terminal.
func (t *Terminal) read(ctx context.Context) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data := make([]byte, maxLine)
		n, err := t.file.Read(data)
		done <- result{data[:n], err}
	}()
	select {
	case r := <-done:
		if errors.Is(r.err, io.EOF) || r.err == nil && len(r.data) == 0 {
			r.err = ErrEnded
		}
		return r.data, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// modes returns the modes of a terminal.
func modes(file *os.File) (m *unix.Termios, err error) {
	err = control(file, func(fd int) (err error) {
		m, err = unix.IoctlGetTermios(fd, getModes)
		return err
	})
	return m, err
}

func setModes(file *os.File, m *unix.Termios, flush bool) error {
	order := uint(setModesNow)
	if flush {
		order = setModesFlush
	}
	return control(file, func(fd int) error { return unix.IoctlSetTermios(fd, order, m) })
}

// control calls f with the descriptor, which stays one that a reader can be woken on.
func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
