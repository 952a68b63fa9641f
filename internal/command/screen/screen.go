// Package screen writes text for a person: in the columns and colours that a terminal has,
// and plain into a file or a pipe. What it prints may hold somebody else's words.
package screen

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Screen is where text for a person goes to: a terminal has a width and colours, a
// file and a pipe have neither.
type Screen struct {
	Width  int // in columns; 0: no limit
	Height int // in lines; 0: no limit
	Colour bool
	// Addressed says that the cursor can be moved.
	Addressed bool
}

// Of returns where w goes to. Colours are left out where NO_COLOR is set to
// anything (no-color.org), and where TERM is dumb or missing.
func Of(w io.Writer) Screen {
	f, isFile := w.(*os.File)
	if !isFile {
		return Screen{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return Screen{}
	}
	s := Screen{Width: int(size.Col), Height: int(size.Row)}
	if s.Width == 0 {
		s.Width = 80 // a serial line does not say
	}
	term := os.Getenv("TERM")
	s.Addressed = term != "" && term != "dumb"
	s.Colour = s.Addressed && os.Getenv("NO_COLOR") == ""
	return s
}

// Tone is the colour of a word, which says the same without it.
type Tone string

const (
	Plain  Tone = ""
	Strong Tone = "1"
	Fine   Tone = "32"
	Doubt  Tone = "33"
	Alarm  Tone = "1;31"
)

// Paint returns text in the colour of a tone (ECMA-48, SGR), where there are colours.
func (s Screen) Paint(t Tone, text string) string {
	if !s.Colour || t == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

// leastText is how narrow a column of text may become, in columns; where it would be
// narrower, lines are left to the terminal.
const leastText = 24

// Put writes lines after head, which takes up indent columns, below each other.
func (s Screen) Put(b *strings.Builder, head string, indent int, lines []string) {
	for i, line := range lines {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		b.WriteString(head)
		b.WriteString(line)
		b.WriteByte('\n')
	}
}

// Complaint returns the text of an error as it is printed to w.
func Complaint(w io.Writer, text string) string { return Of(w).complaint(text) }

// complaint returns the text of an error as it is printed: each of its lines says
// whose it is.
func (s Screen) complaint(text string) string {
	const head = "privyseal: "
	var b strings.Builder
	for _, line := range strings.Split(text, "\n") {
		s.Put(&b, head, len(head), s.Wrap(len(head), line))
	}
	return b.String()
}

// Wrap breaks text at spaces into lines that fit after indent columns. What stands
// in backticks is to be pasted, and is not broken.
func (s Screen) Wrap(indent int, text string) (lines []string) {
	text = Printable(text)
	room := s.Width - indent
	if s.Width == 0 || room < leastText {
		return []string{text}
	}
	line := ""
	for _, w := range words(text) {
		switch {
		case line == "":
			line = w
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) <= room:
			line += " " + w
		default:
			lines = append(lines, line)
			line = w
		}
	}
	return append(lines, line)
}

// words splits text at spaces outside of backticks.
func words(text string) (list []string) {
	quoted := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '`' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}

// Printable returns text on one line, with a question mark in place of what a
// terminal would take for an order: a part of it may be a node's words.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// What is drawn over is neither cleared before nor scrolled, so that nothing
// flickers: each line clears what was after it (ECMA-48: CUP, EL, ED, and DECTCEM).
const (
	cursorHome = "\x1b[H"
	clearLine  = "\x1b[K"
	clearRest  = "\x1b[J"
	HideCursor = "\x1b[2J\x1b[?25l"
	ShowCursor = "\x1b[?25h"
)

// Redraws reports whether the screen is a terminal that can be drawn over.
func (s Screen) Redraws() bool { return s.Width > 0 && s.Addressed }

// Over returns what draws a page over the last one, as much of it as fits.
func (s Screen) Over(page string) string {
	var b strings.Builder
	b.WriteString(cursorHome)
	left := s.Height - 1
	for line := range strings.Lines(page) {
		if left -= s.rows(line); s.Height > 0 && left < 1 {
			b.WriteString("…" + clearLine + "\r\n")
			break
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + clearLine + "\r\n")
	}
	b.WriteString(clearRest)
	return b.String()
}

// rows returns how many rows of the screen a line takes.
func (s Screen) rows(line string) int {
	n := utf8.RuneCountInString(line) - 1
	return 1 + max(0, n-1)/s.Width
}
