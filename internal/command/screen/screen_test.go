package screen

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name   string
		width  int
		indent int
		text   string
		want   []string
	}{
		{"no limit", 0, 10, strings.Repeat("word ", 50) + "end", []string{strings.Repeat("word ", 50) + "end"}},
		{"it fits", 40, 10, "thirty columns and not one more"[:30], []string{"thirty columns and not one mor"}},
		{"one too many", 40, 10, "thirty columns and not one more", []string{"thirty columns and not one", "more"}},
		{"columns are letters, not bytes", 34, 10, "ä ö ü ä ö ü ä ö ü ä ö ü", []string{"ä ö ü ä ö ü ä ö ü ä ö ü"}},
		{"a word that is too long goes alone", 34, 10, "x " + strings.Repeat("y", 30) + " z", []string{"x", strings.Repeat("y", 30), "z"}},
		{"a command is not broken", 34, 10, "type `privyseal state adopt --yes` now", []string{"type", "`privyseal state adopt --yes`", "now"}},
		{"no room at all", 20, 10, "a text that the terminal breaks as it likes", []string{"a text that the terminal breaks as it likes"}},
		{"nothing", 40, 10, "", []string{""}},
		{"an order to the terminal is none", 0, 0, "a\x1b[2Jb\rc\x07d\ne\tf\u202eg", []string{"a?[2Jb?c?d e f?g"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Screen{Width: tt.width}.Wrap(tt.indent, tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A page is drawn over the one before, without clearing the screen in between, and
// no further down than the screen goes.
func TestDrawnOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		height int
		page   string
		want   string
	}{
		{"a page", 10, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
		{"it fits to the line", 4, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
		{"a line too many", 3, "one\ntwo\nthree\n", "^[[Hone^[[K\r\n…^[[K\r\n^[[J"},
		{"a line that takes two rows", 4, "one\n" + strings.Repeat("x", 21) + "\nthree\n", "^[[Hone^[[K\r\n…^[[K\r\n^[[J"},
		{"no height is known", 0, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.ReplaceAll(Screen{Width: 20, Height: tt.height}.Over(tt.page), "\x1b", "^[")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// An error says whose it is on each line, and is broken like anything else.
func TestComplaint(t *testing.T) {
	text := "no signer is running in /var/lib/privyseal, or in any other folder that is known here\nstart one with `privyseal start --home /var/lib/privyseal --standby --and-some-more-of-it`"
	want := `privyseal: no signer is running in /var/lib/privyseal, or in any other folder
           that is known here
privyseal: start one with
           ` + "`privyseal start --home /var/lib/privyseal --standby --and-some-more-of-it`\n"
	if diff := cmp.Diff(want, Screen{Width: 80}.complaint(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (Screen{}).complaint("a\nb"); got != "privyseal: a\nprivyseal: b\n" {
		t.Errorf("%q", got)
	}
}

// What goes into a file or a pipe has neither colours nor breaks.
func TestNoTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := Of(f); got != (Screen{}) {
		t.Errorf("a file is %+v", got)
	}
	if got := Of(&strings.Builder{}); got != (Screen{}) {
		t.Errorf("a buffer is %+v", got)
	}
}
