package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// mutant is one fault put into one file.
type mutant struct {
	name string // what breaks, in a few words
	file string // from the repository's root
	// test are arguments of `go test`: a package, and which of its tests to run
	// where not all of them are needed. The tests of file's own package by default.
	pkg, run string
	from, to string

	where string // list and line, for messages
}

// readLists returns the mutants of all lists in dir, in order.
func readLists(dir string) ([]mutant, error) {
	lists, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	names := map[string]string{}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return nil, err
		}
		mutants, err := parseList(filepath.Base(list), string(text))
		if err != nil {
			return nil, err
		}
		for _, m := range mutants {
			if other, ok := names[m.name]; ok {
				return nil, fmt.Errorf("%s: %q is also at %s", m.where, m.name, other)
			}
			names[m.name] = m.where
		}
		all = append(all, mutants...)
	}
	return all, nil
}

// parseList reads a list: paragraphs of
//
//	mutant  what breaks
//	file    path of the file from the root
//	test    package and, optional, the tests' names as for -run
//	- a line that is there
//	+ what is in its place
//
// A line that begins with # is a comment.
func parseList(name, text string) ([]mutant, error) {
	var all []mutant
	var m mutant
	end := func() error {
		if m == (mutant{}) {
			return nil
		}
		if err := m.complete(); err != nil {
			return fmt.Errorf("%s: %w", m.where, err)
		}
		all, m = append(all, m), mutant{}
		return nil
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case strings.TrimSpace(line) == "":
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		if m == (mutant{}) {
			m.where = fmt.Sprintf("%s:%d", name, n)
		}
		if err := m.field(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return all, errors.Join(lines.Err(), end())
}

// field reads one line of a mutant.
func (m *mutant) field(line string) error {
	key, value, _ := strings.Cut(line, " ")
	text := strings.TrimSpace(value)
	switch key {
	case "-":
		m.from += text + "\n"
	case "+":
		m.to += value + "\n"
	case "mutant":
		m.name = text
	case "file":
		m.file = text
	case "test":
		m.pkg, m.run, _ = strings.Cut(text, " ")
		m.run = strings.TrimSpace(m.run)
	default:
		return fmt.Errorf("%q is not one of mutant, file, test, - and +", key)
	}
	return nil
}

func (m *mutant) complete() error {
	m.from, m.to = strings.TrimSuffix(m.from, "\n"), strings.TrimSuffix(m.to, "\n")
	switch {
	case m.name == "":
		return errors.New("no line says what breaks")
	case m.file == "":
		return errors.New("no file")
	case m.from == "":
		return errors.New("no line to change")
	}
	if m.pkg == "" {
		m.pkg = "./" + path.Dir(m.file)
	}
	return nil
}

// apply returns the text with the fault in it. What is to be changed has to be
// there once, whatever its indentation, or the list has fallen behind the code.
func (m *mutant) apply(text string) (string, error) {
	var lines []string
	for line := range strings.SplitSeq(m.from, "\n") {
		lines = append(lines, regexp.QuoteMeta(line))
	}
	found := regexp.MustCompile(strings.Join(lines, `\n[ \t]*`)).FindAllStringIndex(text, 2)
	if len(found) != 1 {
		return "", fmt.Errorf("%s: %s: the text to change in %s %s", m.where, m.name, m.file,
			map[int]string{0: "is no longer there", 2: "is there more than once"}[len(found)])
	}
	mutated := text[:found[0][0]] + m.to + text[found[0][1]:]
	if mutated == text {
		return "", fmt.Errorf("%s: %s: nothing is changed", m.where, m.name)
	}
	return mutated, nil
}

// read returns the mutated text of the file below root.
func (m *mutant) read(root fs.FS) (string, error) {
	text, err := fs.ReadFile(root, m.file)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", m.where, m.name, err)
	}
	return m.apply(string(text))
}
