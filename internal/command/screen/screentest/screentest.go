// Package screentest compares pages that are printed with those that are expected.
package screentest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/command/screen"
)

var update = flag.Bool("update", false, "rewrite the golden pages")

// Screens are where a page may go to, by the name of its golden file.
var Screens = map[string]screen.Screen{"pipe": {}, "80": {Width: 80}, "120": {Width: 120}, "colour": {Width: 80, Colour: true}}

// Golden compares a page with a file in testdata, where ESC is written ^[.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, "\x1b", "^[")
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// Fits checks that each line of a page fits, but for those that cannot be broken.
func Fits(t *testing.T, page string, s screen.Screen) {
	t.Helper()
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > s.Width && len(s.Wrap(0, line)) > 1 {
			t.Errorf("%d columns of %d: %s", n, s.Width, line)
		}
	}
}
