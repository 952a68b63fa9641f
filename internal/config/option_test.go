package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"privyseal/internal/secret"

	"github.com/google/go-cmp/cmp"
)

// box is a table with a value of each type.
type box struct {
	Text, File, Loose string
	On                bool
	Count             int
	ID                uint32
	Wait              Duration
	Word              secret.Text
	List              []string
}

var boxOptions = Options[box]{
	{Name: "text", Of: func(b *box) any { return &b.Text }, Required: true, Comment: "a word"},
	{Name: "file", Of: func(b *box) any { return &b.File }, Path: true, Example: "x.pem"},
	{Name: "loose", Of: func(b *box) any { return &b.Loose }},
	{Name: "on", Of: func(b *box) any { return &b.On }, Example: "false"},
	{Name: "count", Of: func(b *box) any { return &b.Count }, Standard: "2", Example: "2"},
	{Name: "id", Of: func(b *box) any { return &b.ID }},
	{Name: "wait", Of: func(b *box) any { return &b.Wait }, Standard: "1s", Comment: "for an answer"},
	{Name: "list", Of: func(b *box) any { return &b.List }, Comment: "words"},
	{Name: "who.word", Of: func(b *box) any { return &b.Word }, Required: true, More: "Nobody sees it."},
}

func (b *box) Fill(written func(string) bool) { boxOptions.Fill(b, written) }

func (b *box) Check(written func(string) bool, fail func(key, wrong string)) {
	boxOptions.Check(b, written, fail)
}

func (b *box) Render(w *Lines) { boxOptions.Render(b, w) }

func (b *box) Secret() (string, bool) { return boxOptions.Secret(b) }

var boxKinds = Kinds{{Provider: "soft"}, {Provider: "box", Table: "box", Noun: "a box", Keys: boxOptions.Keys(),
	Decode: func(values map[string]any, fail func(key, wrong string)) Section {
		b := &box{}
		boxOptions.Decode(b, values, fail)
		return b
	}}}

// boxes returns a config with a table.
func boxes(lines string) string {
	return "[[chain]]\nid = \"a\"\nprovider = \"soft\"\nkey = \"k\"\nstate = \"s\"\nnode = [ { addr = \"unix:///a\" } ]\n[box.main]\n" + lines
}

// Keys, values, defaults, lines and mistakes of a table follow from its options.
func TestOptions(t *testing.T) {
	all := boxes("text = \"t\"\nfile = \"f\"\nloose = \"l\"\non = true\ncount = 3\nid = 4\nwait = \"2s\"\nlist = [\"x\", \"y \\\"z\\\"\"]\n[box.main.who]\nword = \"w\"\n")
	for name, tt := range map[string]struct {
		text string
		want box
		line string // that is written
	}{
		"all":   {all, box{"t", "f", "l", true, 3, 4, Duration{2 * time.Second}, secret.New("w"), []string{"x", `y "z"`}}, "list = [\"x\", \"y \\\"z\\\"\"] # words\n\n[box.main.who]\nword = \"w\"\n"},
		"least": {boxes("text = \"t\"\n"), box{Text: "t", Count: 2, Wait: Duration{time.Second}}, "text = \"t\" # a word\n# file = \"x.pem\"\n# on = false\n# count = 2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := boxKinds.Parse("p", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			equal := cmp.Comparer(secret.Text.Equal)
			if diff := cmp.Diff(&tt.want, c.Tables["box"]["main"], equal); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			text := string(c.Render())
			if !strings.Contains(text, tt.line) {
				t.Errorf("no %q in\n%s", tt.line, text)
			}
			again, err := boxKinds.Parse("p", []byte(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if diff := cmp.Diff(&tt.want, again.Tables["box"]["main"], equal); diff != "" {
				t.Errorf("-want +read again\n%s", diff)
			}
		})
	}
	for lines, want := range map[string]string{
		"on = true\n":                                 "p:7: box main: text is missing: a word",
		"text = \"\"\n":                               "p:8: box main: text is empty",
		"text = \"t\"\nloose = \"\"\n":                "p:9: box main: loose is empty",
		"text = \"t\"\nid = -1\n":                     "p:9: box main: id is not from 0 to 4294967295",
		"text = \"t\"\n[box.main.who]\n":              "p:9: box main: who.word is missing",
		"text = \"t\"\n[box.main.who]\nword = \"\"\n": "p:10: box main: who.word is empty",
		"text = \"t\"\nwait = \"soon\"\n":             "p:9: ",
		"text = \"t\"\ncount = \"1\"\n":               "p:9: ",
		"text = \"t\"\nText = \"t\"\n":                "p:9: unknown key box.main.Text",
		"text = \"t\"\nlist = []\n":                   "p:9: box main: list is empty",
		"text = \"t\"\nlist = \"x\"\n":                "p:9: box.main.list: want list = [",
		"text = \"t\"\nlist = [\"x\", 1]\n":           "p:9: box.main.list.1: want a string in quotes",
		"text = \"t\"\n[box.main.who]\nword = 1\n":    "p:10: ",
		"text = \"t\"\nwho.word = \"w\"\nwho.x = 1\n": "p:10: unknown key box.main.who.x",
	} {
		_, err := boxKinds.Parse("p", []byte(boxes(lines)))
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", lines, err, want)
		}
	}
}

// A file with a secret is for its owner alone, and what is declared of a key is in its Key.
func TestOptionsKeys(t *testing.T) {
	b := &box{Word: secret.New("w")}
	if key, is := b.Secret(); key != "who" || !is {
		t.Errorf("%q, %v", key, is)
	}
	if _, is := (&box{Text: "t"}).Secret(); is {
		t.Error("a secret of nothing")
	}
	var keys []string
	for _, k := range boxOptions.Keys() {
		keys = append(keys, fmt.Sprint(k.Name, "|", k.Type, "|", k.Default, "|", k.Comment, "|", k.More))
	}
	if diff := cmp.Diff([]string{
		"text|a string|required|a word|", "file|a string|||", "loose|a string|||", "on|true or false|false||", "count|a number|2||", "id|a number|||",
		`wait|a duration|"1s"|for an answer|`, "list|strings||words|", "list.*|a string|||", "who|a table|||", "who.word|a string|required||Nobody sees it.",
	}, keys); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	b = &box{Text: "t", File: "f"}
	err := boxOptions.Paths(b, func(path string) (string, error) { return "/" + path, nil })
	if err != nil || b.Text != "t" || b.File != "/f" {
		t.Errorf("%+v, %v", b, err)
	}
}
