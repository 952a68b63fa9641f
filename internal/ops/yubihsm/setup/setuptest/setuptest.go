//go:build linux

// Package setuptest plays the operator to whom `privyseal yubihsm setup` shows 24 words. No
// program imports it.
package setuptest

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"privyseal/internal/terminal/terminaltest"
)

const count = 24

// shown is one of the words on the page.
var shown = regexp.MustCompile(`([0-9]+)  ([a-z]+)`)

// Read waits for new words, reads them, and presses Return.
func Read(t testing.TB, tty *terminaltest.Terminal) []string {
	t.Helper()
	page := tty.Reads("Press Return when they are written down: then you are asked for them.")
	list := make([]string, count)
	for _, m := range shown.FindAllStringSubmatch(page, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 || n > count || list[n-1] != "" {
			t.Fatalf("word %q in\n%s", m[1], page)
		}
		list[n-1] = m[2]
	}
	tty.Types("\r")
	return list
}

// Type types words, one to a line, each when it is asked for. Echo has to be off.
func Type(t testing.TB, tty *terminaltest.Terminal, list []string) {
	t.Helper()
	for i, word := range list {
		tty.Reads(fmt.Sprintf("Word %d of %d: ", i+1, count))
		if tty.Echoes() {
			t.Error("echo is on")
		}
		tty.Types(word + "\r")
	}
}
