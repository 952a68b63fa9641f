package terminal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/terminal/terminaltest"
)

func open(t *testing.T, term string) (*Terminal, *terminaltest.Terminal) {
	t.Helper()
	player := terminaltest.New(t)
	ours, err := Open(player.Path, term)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, player
}

// start runs f, and returns how to wait for its error.
func start(f func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() error { return <-done }
}

// Where there is another screen, a secret is on that alone. Echo is off meanwhile, and what
// was typed before does not end it.
func TestShow(t *testing.T) {
	ours, player := open(t, "xterm-256color")
	player.Types("too early\r")
	player.Reads("too early")
	wait := start(func() error { return ours.Show(t.Context(), "a secret\nof two lines") })
	player.Reads(enterScreen)
	player.Reads("a secret\r\nof two lines\r\n")
	if player.Echoes() {
		t.Error("echo is on")
	}
	player.Types("x\r")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	player.Reads(leaveScreen)
	if kept := player.Keeps(); strings.Contains(kept, "secret") || strings.Contains(kept, "x") || !strings.Contains(kept, "too early") {
		t.Errorf("the screen keeps %q", kept)
	}
	if !player.Echoes() {
		t.Error("echo is still off")
	}
}

// Where there may be none, that is said before.
func TestShowElsewhere(t *testing.T) {
	for term, k := range map[string]kind{"linux": screen, "vt220": screen, "screen": screen, "dumb": paper, "": paper} {
		ours, player := open(t, term)
		wait := start(func() error { return ours.Show(t.Context(), "a secret") })
		if before := player.Reads("Press Return to go on."); strings.Contains(before, "secret") || !strings.Contains(before, "This terminal may keep what it shows") {
			t.Errorf("%q: first %q", term, before)
		}
		player.Types("\r")
		player.Reads("a secret")
		player.Types("\r")
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if k == paper {
			player.Reads("clear this terminal now")
			if strings.Contains(player.Written(), "\x1b") {
				t.Errorf("%q: %q", term, player.Written())
			}
		} else if player.Reads(leaveScreen); strings.Contains(player.Keeps(), "secret") {
			t.Errorf("%q keeps %q", term, player.Keeps())
		}
	}
}

func TestKinds(t *testing.T) {
	for term, want := range map[string]kind{
		"xterm": screens, "tmux-256color": screens, "vte-direct": screens, "rxvt-unicode": screens, "alacritty": screens, "foot": screens, "xterm-kitty": screens,
		"linux": screen, "screen-256color": screen, "vt100": screen, "vt102": screen, "ansi": screen, "cons25": screen, "dumb": paper, "dumb-emacs": paper, "": paper, "unknown": paper,
	} {
		if got := kindOf(term); got != want {
			t.Errorf("%q: %d, want %d", term, got, want)
		}
	}
}

// What is typed for a question shows, and for a hidden one does not: not while it is read, not
// between two, and not what comes too early.
func TestAsk(t *testing.T) {
	ours, player := open(t, "xterm")
	wait := start(func() error {
		got, err := ours.Ask(t.Context(), "a question? ")
		if err == nil && got != "an answer" {
			t.Errorf("it got %q", got)
		}
		return err
	})
	player.Reads("a question? ")
	player.Types(" an answer \r")
	player.Reads("an answer")
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	var got []string
	wait = start(func() error {
		return ours.Hidden(t.Context(), func(ask func(string) ([]byte, error)) error {
			for _, question := range []string{"first? ", "second? ", "third? "} {
				line, err := ask(question)
				if err != nil {
					return err
				}
				got = append(got, string(line))
			}
			return nil
		})
	})
	player.Reads("first? ")
	if player.Echoes() {
		t.Error("echo is on")
	}
	player.Types("one\rtwo words\r")
	player.Reads("third? ")
	player.Types("three\r")
	if err := wait(); err != nil || strings.Join(got, ",") != "one,two words,three" {
		t.Errorf("%q, %v", got, err)
	}
	for _, secret := range []string{"one", "two", "three"} {
		if strings.Contains(player.Written(), secret) {
			t.Errorf("%q was shown: %q", secret, player.Written())
		}
	}
	if !player.Echoes() {
		t.Error("echo is still off")
	}
}

// An interruption leaves the terminal as it was.
func TestInterrupted(t *testing.T) {
	why := errors.New("enough")
	for name, do := range map[string]func(ctx context.Context, ours *Terminal) error{
		"show": func(ctx context.Context, ours *Terminal) error { return ours.Show(ctx, "a secret") },
		"ask": func(ctx context.Context, ours *Terminal) error {
			_, err := ours.Ask(ctx, "a secret")
			return err
		},
		"hidden": func(ctx context.Context, ours *Terminal) error {
			return ours.Hidden(ctx, func(ask func(string) ([]byte, error)) error {
				_, err := ask("a secret")
				return err
			})
		},
	} {
		ours, player := open(t, "xterm")
		ctx, cancel := context.WithCancelCause(t.Context())
		wait := start(func() error { return do(ctx, ours) })
		player.Reads("a secret")
		cancel(why)
		if err := wait(); !errors.Is(err, why) || !player.Echoes() {
			t.Errorf("%s: %v, echo %v", name, err, player.Echoes())
		}
		if name != "show" {
			player.Reads("\n") // what comes next does not stand beside the question
		} else {
			player.Reads(leaveScreen)
			if strings.Contains(player.Keeps(), "secret") {
				t.Errorf("the screen keeps %q", player.Keeps())
			}
		}
	}
}

// A text of which the first lines would scroll away is not shown: the alternate screen has no
// scrollback. A terminal without a size is one that does not know it.
func TestShowInSmallWindow(t *testing.T) {
	text := strings.Repeat("a secret of 22 letters\n", 8) + "end"
	for _, tt := range []struct {
		rows, columns uint16
		says          string
	}{{10, 22, ""}, {0, 80, ""}, {10, 0, ""}, {9, 22, "has 9 lines, and the text needs 10 of this width"}, {17, 21, "has 17 lines, and the text needs 18 of this width"}} {
		ours, player := open(t, "xterm")
		player.Resize(tt.rows, tt.columns)
		wait := start(func() error { return ours.Show(t.Context(), text) })
		if tt.says != "" {
			player.Reads(tt.says)
			player.Reads("Return.\r\n")
			player.Resize(18, 21)
			player.Types("\r")
		}
		if before := player.Reads(enterScreen); strings.Contains(before, "secret") {
			t.Errorf("%v: %q", tt, before)
		}
		player.Reads("end\r\n")
		player.Types("\r")
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
}

// The end of what is typed, and too much of it, are errors.
func TestEndsAndLimits(t *testing.T) {
	ours, player := open(t, "xterm")
	wait := start(func() error { _, err := ours.Ask(t.Context(), "? "); return err })
	player.Reads("? ")
	player.Types("\x04")
	if err := wait(); err == nil || !strings.Contains(err.Error(), "Control-D was typed") {
		t.Error(err)
	}
	player.Types("\r")
	ours.rest = make([]byte, maxLine+1)
	if _, err := ours.Ask(t.Context(), "? "); err == nil || !strings.Contains(err.Error(), "more than 4096 bytes") {
		t.Error(err)
	}
}

// What is no terminal is refused.
func TestNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/dev/null", file + "none"} {
		if _, err := Open(path, "xterm"); !errors.Is(err, errNone) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
