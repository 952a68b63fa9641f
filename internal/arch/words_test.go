package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// oddWords are turns of phrase at which a reader stumbles, and what to write in their
// place. They are looked for in texts of the program and its comments, in README, doc and
// HACKING.md, in scripts, in the alerts and in the picture.
var oddWords = []struct{ odd, write string }{
	{`\banew\b`, "again"},
	{`\bfor ever\b`, "forever"},
	{`\b(tells|told)\b`, "says, reports, shows"},
	{`\bdoubled\b`, "duplicate"},
	{`\bstrangers?\b`, "somebody else, another program"},
	{`\bproxied\b`, "through a proxy"},
	{`\bin clear\b`, "in the clear, unencrypted"},
	{`\bin work\b`, "in progress"},
	{`(\b(it|that|which)|%[.0-9]*[sqv]) (is|was) no (?:[a-km-z]|l[^eo])`, "is not a"},
	{`\bno more\b[.,;:)]`, "no longer"},
	{`\bsays? of itself\b`, "calls itself, reports"},
	{`\bwho we are\b`, "our identity, our login"},
	{`\btook (it|the export) in\b`, "imported it"},
	{`\bof no use any more\b`, "no longer needed"},
	{`\bnothing of the kind\b`, "no such thing"},
	{`\bin the place of\b`, "in place of, instead of"},
	{`\bmends?\b`, "fixes"},
	{`\bis none (of|for)\b`, "is not, may not be used for"},
	{`\bthat (is|are) none\b`, "that is not one, an invalid one"},
	{`\bheld against\b`, "compared with, checked against"},
	{`\bnot one for\b`, "not supported by, not a"},
}

// odd are the patterns of oddWords.
var odd = func() (list []*regexp.Regexp) {
	for _, w := range oddWords {
		list = append(list, regexp.MustCompile(w.odd))
	}
	return list
}()

// oddWord returns the first odd phrase in a text, and what to write in its place.
func oddWord(text string) (found, write string) {
	for i, w := range oddWords {
		if found := odd[i].FindString(text); found != "" {
			return found, w.write
		}
	}
	return "", ""
}

// TestWords: what users read is in plain words.
func TestWords(t *testing.T) {
	look := func(where, text string) {
		if odd, write := oddWord(text); odd != "" {
			t.Errorf("%s: %q; write: %s", where, odd, write)
		}
	}
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				look(s.fset.Position(lit.Pos()).String(), text)
			}
			return true
		})
		for _, c := range s.file.Comments {
			look(s.fset.Position(c.Pos()).String(), strings.Join(strings.Fields(c.Text()), " "))
		}
	}
	for _, where := range []string{
		"README.md", "SECURITY.md", "HACKING.md", "Makefile", "doc/*.md", "doc/reference/*.md", "doc/*.svg", "doc/alerts/*", "scripts/*",
	} {
		names, err := filepath.Glob("../../" + where)
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", where, err)
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err == nil && info.IsDir() {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			look(name, string(text))
		}
	}
}

func TestWordsBite(t *testing.T) {
	for text, odd := range map[string]string{
		"the state was made anew":             "anew",
		"%s is no folder":                     "%s is no f",
		"it is no longer open":                "",
		"there is no key":                     "",
		"the config has it no more; restart":  "no more;",
		"no more than 8":                      "",
		"the loser is told":                   "told",
		"a request is in work":                "in work",
		"the host that took it in":            "took it in",
		"a program says of itself":            "says of itself",
		"put it in the place of that":         "in the place of",
		"a key in the clear, forever, and it": "",
		"its signature is none of RSA-3072":   "is none of",
		"an answer that is none":              "that is none",
		"no certificate is held against them": "held against",
	} {
		if got, _ := oddWord(text); got != odd {
			t.Errorf("%q: %q, want %q", text, got, odd)
		}
	}
}
