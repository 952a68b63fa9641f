package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/config"
)

// tableWorld writes configs with one chain, which has the table [TABLE.main] of a kind.
type tableWorld struct {
	kinds    config.Kinds
	kind     config.Kind
	provider string // of a chain that is to have a store
}

// head is all of a config but the table; names says what the chain names it by, "" is
// nothing, and more are further keys of the chain.
func (w tableWorld) head(name string, more ...string) string {
	provider, key, store := w.kind.Provider, w.kind.Table, ""
	if w.kind.Store != "" {
		provider, store = w.provider, fmt.Sprintf("store = %q\n", w.kind.Store)
	}
	own := ""
	if name != "" {
		own = fmt.Sprintf("%s = %q\n", key, name)
	}
	return fmt.Sprintf("[[chain]]\nid = \"chain-1\"\nprovider = %q\nkey = \"k\"\nstate = \"s\"\nnode = [ { addr = \"unix:///n\" } ]\n%s%s%s", provider, store, own, strings.Join(more, ""))
}

// wrong demands that the last line of a config be refused for a reason.
func (w tableWorld) wrong(t *testing.T, text, reason string) {
	t.Helper()
	w.wrongAt(t, text, strings.Count(text, "\n"), reason)
}

func (w tableWorld) wrongAt(t *testing.T, text string, line int, reason string) {
	t.Helper()
	_, err := w.kinds.Parse("privyseal.toml", []byte(text))
	var mistakes *config.Error
	if !errors.As(err, &mistakes) || !slices.ContainsFunc(mistakes.Problems, func(p config.Problem) bool {
		return p.Line == line && strings.Contains(p.Text, reason)
	}) {
		t.Errorf("%v, want %q on line %d of\n%s", err, reason, line, text)
	}
}

// values has a value of each type that the file knows, and the types of keys for which it is right.
var values = map[string][]string{
	`"x"`: {"a string"}, `"3s"`: {"a string", "a duration"}, `3`: {"a number"}, `true`: {"true or false"}, `[ "x" ]`: {"strings"},
	`[ 3 ]`: nil, `3.5`: nil, `2026-01-02`: nil, `[ [ "x" ] ]`: nil, `{ }`: {"a table"}, `[ { } ]`: nil,
}

// Every table of every provider and store of this build is as strict as the rest of the
// file, whoever adds the next one: each key of its has a type, no empty text, and
// neighbours that are slips.
func TestTablesAreStrict(t *testing.T) {
	b := build()
	kinds := b.House("").App.Kinds
	tables := 0
	for _, kind := range kinds {
		if kind.Table == "" {
			continue
		}
		tables++
		w := tableWorld{kinds, kind, b.Providers[0].Name}
		t.Run(kind.Table, func(t *testing.T) {
			w.chains(t)
			for _, key := range kind.Keys {
				if !strings.HasSuffix(key.Name, ".*") {
					w.key(t, key)
				}
			}
		})
	}
	if tables < 6 {
		t.Errorf("%d tables", tables)
	}
}

// chains demands that a chain name the table of its provider or store, and no other.
func (w tableWorld) chains(t *testing.T) {
	table := fmt.Sprintf("[%s.main]\n", w.kind.Table)
	w.wrong(t, w.head("main"), fmt.Sprintf("there is no [%s.main]", w.kind.Table))
	w.wrong(t, w.head("main")+table+table, fmt.Sprintf("duplicate %s.main, first on line", w.kind.Table))
	w.wrong(t, w.head("main")+fmt.Sprintf("[%s.\"a.b\"]\n", w.kind.Table), fmt.Sprintf(`"a.b" is not the name of %s`, w.kind.Noun))
	w.wrong(t, w.head("main")+fmt.Sprintf("[[%s.main]]\n", w.kind.Table), w.kind.Table+".main: want a table")
	w.wrongAt(t, w.head("")+table, 1, fmt.Sprintf("%s is missing: the name of a table [%s.NAME]", w.kind.Table, w.kind.Table))
	other := tableWorld{w.kinds, config.Kind{Provider: w.provider, Table: w.kind.Table}, ""}
	w.wrong(t, other.head("main"), w.kind.Table+" is for the ")
	for _, key := range slices.Sorted(maps.Keys(w.kind.Refused)) {
		for _, value := range []string{"true", "7"} { // of which one has the right type
			text := w.head("main", fmt.Sprintf("%s = %s\n", key, value))
			if _, err := w.kinds.Parse("privyseal.toml", []byte(text)); !strings.Contains(err.Error(), ": want ") {
				w.wrong(t, text, key+" "+w.kind.Refused[key])
			}
		}
	}
}

// key demands that one key of the table have its type, a value, and its own name.
func (w tableWorld) key(t *testing.T, key config.Key) {
	table, name := w.kind.Table+".main", key.Name
	path := table + "." + name
	if above, below, found := strings.Cut(name, "."); found {
		table, name = table+"."+above, below
	}
	head := w.head("main") + "[" + table + "]\n"
	for _, value := range slices.Sorted(maps.Keys(values)) {
		text := head + name + " = " + value + "\n"
		if !slices.Contains(values[value], key.Type) {
			w.wrong(t, text, path)
			w.wrong(t, text, ": want ")
		} else if _, err := w.kinds.Parse("privyseal.toml", []byte(text)); err != nil && strings.Contains(err.Error(), ": want ") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, slip := range []string{name + "x", strings.ToUpper(name[:1]) + name[1:]} {
		w.wrong(t, head+slip+" = 3\n", "unknown key "+table+"."+slip)
	}
	switch key.Type {
	case "a string":
		w.wrong(t, head+name+" = \"\"\n", key.Name+" is empty")
	case "strings":
		w.wrong(t, head+name+" = []\n", key.Name+" is empty")
	case "a duration":
		w.wrong(t, head+name+" = \"\"\n", path+": want a duration")
	}
	if key.Default == config.Required {
		w.wrong(t, head, key.Name+" is missing")
	}
}
