package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// oddWords are turns of phrase at which a reader stumbles, and what to write in their
// place. They are looked for in what users read: texts of the program, README and doc.
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
}

// oddWord returns the first odd phrase in a text, and what to write in its place.
func oddWord(text string) (odd, write string) {
	for _, w := range oddWords {
		if found := regexp.MustCompile(w.odd).FindString(text); found != "" {
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
	}
	pages, err := filepath.Glob("../../doc/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no page in doc: %v", err)
	}
	reference, err := filepath.Glob("../../doc/reference/*.md")
	if err != nil || len(reference) == 0 {
		t.Fatalf("no page in doc/reference: %v", err)
	}
	for _, name := range append(append(pages, reference...), "../../README.md", "../../SECURITY.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		look(name, string(text))
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
	} {
		if got, _ := oddWord(text); got != odd {
			t.Errorf("%q: %q, want %q", text, got, odd)
		}
	}
}
