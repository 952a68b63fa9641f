// Package shell writes words into command lines that an operator is asked to type.
// What is printed to be pasted may hold any name that a file, a config or a foreign
// genesis has; it must arrive as that name, and do nothing else on the way.
package shell

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Word returns s as one word of a POSIX shell, and of bash and zsh. It arrives as s
// for every byte but NUL, which no argument can hold. What a terminal would not show
// as itself (control and formatting characters, bytes that are not UTF-8) is written
// with printf and octal digits, so that it neither acts on the terminal nor hides.
//
// A word that begins with a hyphen is an option for whoever gets it, quoted or not:
// see [File].
func Word(s string) string {
	switch {
	case s != "" && s[0] != '=' && strings.Trim(s, plain) == "": // zsh expands a leading =
		return s
	case shown(s):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	// A command substitution drops line feeds at its end.
	body := strings.TrimRight(s, "\n")
	word := ""
	if body != "" {
		word = `"$(printf '` + octal(body) + `')"`
	}
	if tail := s[len(body):]; tail != "" {
		word += "'" + tail + "'"
	}
	return word
}

// File returns the name of a file as a word that no program takes for an option.
func File(name string) string {
	if strings.HasPrefix(name, "-") {
		name = "./" + name
	}
	return Word(name)
}

// Line returns s as a line to be read: what a terminal would not show as itself, a line
// feed too, is written as Go's escapes.
func Line(s string) string {
	if shown(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if visible(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote
			if size > 1 {
				quoted = strconv.QuoteToASCII
			}
			b.WriteString(strings.Trim(quoted(s[:size]), `"`))
		}
		s = s[size:]
	}
	return b.String()
}

// plain are the characters that no shell gives a meaning of their own.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+@/,="

// shown reports whether a terminal shows s as it is.
func shown(s string) bool {
	for _, r := range s {
		if !visible(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// visible reports whether a terminal shows something for r: not so for the fillers, which
// Unicode counts as letters, and the empty pattern of Braille.
func visible(r rune) bool {
	switch r {
	case '\u115f', '\u1160', '\u2800', '\u3164', '\uffa0':
		return false
	}
	return strconv.IsPrint(r)
}

// octal returns s as a format of printf in single quotes, which stand in double ones: so
// an exclamation mark would be one to an interactive shell's history.
func octal(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1, !visible(r), r == '\'', r == '!':
			for i := range size {
				fmt.Fprintf(&b, `\%03o`, s[i])
			}
		case r == '\\' || r == '%':
			b.WriteRune(r)
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}
