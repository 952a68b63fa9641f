package command

import (
	"bytes"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

// box is a table of the config, which may have a secret in it.
type box struct{ secret bool }

func (*box) Fill(func(string) bool)                           {}
func (*box) Check(func(string) bool, func(key, wrong string)) {}
func (b *box) Secret() (key string, secret bool)              { return "word", b.secret }
func (*box) Render(w *config.Lines)                           { w.Line(true, "word", `"xyzzy"`) }

// A dry run shows each new table once, and of one with a secret the name alone.
func TestShowTables(t *testing.T) {
	app := &cli.App{Kinds: config.Kinds{{Provider: "box", Table: "box", Keys: []config.Key{{Name: "word"}}}}}
	in := &home.Installer{House: &provider.House{App: app}}
	open, closed := &box{}, &box{secret: true}
	tables := func(list map[string]config.Section) map[string]map[string]config.Section {
		return map[string]map[string]config.Section{"box": list}
	}
	chains := []*home.Chain{
		{Tables: tables(map[string]config.Section{"b": open, "c": closed}), Makes: []string{"keys/b.word"}},
		{Tables: tables(map[string]config.Section{"b": open}), StoreTables: tables(map[string]config.Section{"a": open})},
	}
	var out bytes.Buffer
	showTables(&out, in, chains)
	want := "table [box.c], with a secret\ntable [box.a]\n  word = \"xyzzy\"\ntable [box.b]\n  word = \"xyzzy\"\nfile keys/b.word\n"
	if out.String() != want || len(chains[0].Tables["box"]) != 2 {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
}
