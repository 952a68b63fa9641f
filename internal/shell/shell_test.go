package shell

import (
	"os/exec"
	"strings"
	"testing"
)

func shells(t *testing.T) (found []string) {
	for _, name := range []string{"sh", "dash", "bash", "zsh", "ksh", "busybox"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if found == nil {
		t.Skip("there is no POSIX shell here, and `make test` needs one itself")
	}
	return found
}

// arrives has each shell print the words, and compares.
func arrives(t *testing.T, words []string) {
	t.Helper()
	var script strings.Builder
	for _, w := range words {
		script.WriteString(`printf '%s\000' ` + Word(w) + "\n")
	}
	for _, path := range shells(t) {
		args := []string{"-c", script.String()}
		if strings.HasSuffix(path, "busybox") {
			args = append([]string{"sh"}, args...)
		}
		out, err := exec.Command(path, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if want := strings.Join(words, "\x00") + "\x00"; string(out) != want {
			t.Errorf("%s: %q, want %q", path, out, want)
		}
	}
}

// Every byte arrives, wherever it is, alone and beside what has a meaning.
func TestEveryByte(t *testing.T) {
	words := []string{
		"", "a b", "it's", "$(id)", "`id`", "a\\b", `"`, "~", "~root", "!x", "#x", "*", "a;b", "a&b", "a|b", "-x", "=ls", "{a,b}", "[a]", "%s%n", `\n`,
		"c-1$(touch /tmp/x)\x1b[2J", "\n", "\n\n", "a\n", "\na", "a\nb\n\n", "\x1b]0;x\x07'\\%", "ä", "日本", "\u202eevil", "a\u200bb", "'", "''", "\xff\n'",
	}
	for b := 1; b < 256; b++ {
		c := string([]byte{byte(b)})
		words = append(words, c, "x"+c, c+"x", c+c, "'"+c+"9", "$"+c+`\`)
	}
	arrives(t, words)
}

func TestNothingActsOnTheTerminal(t *testing.T) {
	for _, s := range []string{"a\x1b[2Jb", "a\rb", "a\u202eb", "a\x00b", "\x7f", "\x9b", "a\nb"} {
		for _, r := range Word(s) {
			if r < ' ' || r == 0x7f || r == 0x202e || r == 0x9b || r == '\uFFFD' {
				t.Errorf("%q became %q", s, Word(s))
			}
		}
	}
}

func TestWord(t *testing.T) {
	for s, want := range map[string]string{
		"chain-1": "chain-1", "/a/b.json": "/a/b.json", "": "''", "a b": "'a b'", "a'b": `'a'\''b'`, "=ls": "'=ls'", "k==": "k==", "日本": "'日本'",
		"a\x1b": `"$(printf 'a\033')"`,
		// In double quotes a shell that is typed to looks for it in its history.
		"a\x1b!x": `"$(printf 'a\033\041x')"`, "a!x": "'a!x'",
		// Letters that nobody sees.
		"a\u3164": `"$(printf 'a\343\205\244')"`, "\u2800": `"$(printf '\342\240\200')"`,
	} {
		if got := Word(s); got != want {
			t.Errorf("Word(%q) = %s, want %s", s, got, want)
		}
	}
	if got := File("-x y"); got != "'./-x y'" {
		t.Errorf("File: %s", got)
	}
	if got := File("x"); got != "x" {
		t.Errorf("File: %s", got)
	}
}

func FuzzWord(f *testing.F) {
	f.Add("it's $(id)\n")
	f.Fuzz(func(t *testing.T, s string) {
		if !strings.Contains(s, "\x00") {
			arrives(t, []string{s})
		}
	})
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"plain text, `x`":        "plain text, `x`",
		"кошка 鎖":                "кошка 鎖",
		"a\x1b[31mb":             `a\x1b[31mb`,
		"two\nlines\r":           `two\nlines\r`,
		"\u202egnp.exe":          `\u202egnp.exe`,
		"a\u3164b\u115f":         `a\u3164b\u115f`,
		"not \xff UTF-8, \ufffd": "not \\xff UTF-8, \ufffd",
		"\x00":                   `\x00`,
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}
