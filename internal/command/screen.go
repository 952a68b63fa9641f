package command

import (
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where text for a person goes to: a terminal has a width and colours, a
// file and a pipe have neither.
type screen struct {
	width  int // in columns; 0: no limit
	height int // in lines; 0: no limit
	colour bool
	// addressed says that the cursor can be moved.
	addressed bool
}

// screenOf returns what is behind w. Colours are left out where NO_COLOR is set to
// anything (no-color.org), and where TERM is dumb or missing.
func screenOf(w io.Writer) screen {
	f, isFile := w.(*os.File)
	if !isFile {
		return screen{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return screen{}
	}
	s := screen{width: int(size.Col), height: int(size.Row)}
	if s.width == 0 {
		s.width = 80 // a serial line does not say
	}
	term := os.Getenv("TERM")
	s.addressed = term != "" && term != "dumb"
	s.colour = s.addressed && os.Getenv("NO_COLOR") == ""
	return s
}

// tone is what a word says beside its letters: it is never all that says it.
type tone string

const (
	plain  tone = ""
	strong tone = "1"
	fine   tone = "32"
	doubt  tone = "33"
	alarm  tone = "1;31"
)

// paint returns text in the colour of a tone (ECMA-48, SGR), where there are colours.
func (s screen) paint(t tone, text string) string {
	if !s.colour || t == plain || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

// leastText is how narrow a column of text may become, in columns; where it would be
// narrower, lines are left to the terminal.
const leastText = 24

// put writes lines after head, which takes up indent columns, below each other.
func (s screen) put(b *strings.Builder, head string, indent int, lines []string) {
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
func Complaint(w io.Writer, text string) string { return screenOf(w).complaint(text) }

// complaint returns the text of an error as it is printed: each of its lines says
// whose it is.
func (s screen) complaint(text string) string {
	const head = "privyseal: "
	var b strings.Builder
	for _, line := range strings.Split(text, "\n") {
		s.put(&b, head, len(head), s.wrap(len(head), line))
	}
	return b.String()
}

// wrap breaks text at spaces into lines that fit after indent columns. What stands
// in backticks is to be pasted, and is not broken.
func (s screen) wrap(indent int, text string) (lines []string) {
	text = printable(text)
	room := s.width - indent
	if s.width == 0 || room < leastText {
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

// printable returns text on one line, with a question mark in place of what a
// terminal would take for an order: a part of it may be a node's words.
func printable(text string) string {
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
	hideCursor = "\x1b[2J\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// redraws reports whether the screen is a terminal that can be drawn over.
func (s screen) redraws() bool { return s.width > 0 && s.addressed }

// over returns what draws a page over the last one, as much of it as fits.
func (s screen) over(page string) string {
	var b strings.Builder
	b.WriteString(cursorHome)
	left := s.height - 1
	for line := range strings.Lines(page) {
		if left -= s.rows(line); s.height > 0 && left < 1 {
			b.WriteString("…" + clearLine + "\r\n")
			break
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + clearLine + "\r\n")
	}
	b.WriteString(clearRest)
	return b.String()
}

// rows returns how many rows of the screen a line takes.
func (s screen) rows(line string) int {
	n := utf8.RuneCountInString(line) - 1
	return 1 + max(0, n-1)/s.width
}
