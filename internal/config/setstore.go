package config

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"privyseal/internal/durable"
)

// StoreEdit is a chain of a config file that is given another store. Nothing is written
// before [StoreEdit.Write].
type StoreEdit struct {
	// Lines are the lines of the file that go, "- " before them, and those that come, "+ ".
	Lines []string

	kinds  Kinds
	path   string // of the file, and where links lead
	before []byte
	after  []byte
}

// SetStore returns how the config file at path gives a chain, which is there by the name of
// ch, the store of ch. tables are those that have to be added for it. Every other byte of
// the file stays as it is. A file that says it in a way that cannot be edited by lines is
// refused, and so is one that would not load afterwards, or would say anything else too.
func (k Kinds) SetStore(path string, tables map[string]map[string]Section, ch Chain) (*StoreEdit, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("cannot change the config: %w", err)
	}
	data, mode, err := read(target)
	if err != nil {
		return nil, err
	}
	c, err := k.Parse(path, data)
	if err != nil {
		return nil, err
	}
	e := &StoreEdit{kinds: k, path: target, before: data}
	i := slices.IndexFunc(c.Chains, func(of Chain) bool { return of.Name == ch.Name })
	if i < 0 {
		return nil, fmt.Errorf("%s has no chain %q", path, ch.Name)
	}
	if !e.edit(c, i, ch) {
		return nil, fmt.Errorf("%s says where the state of chain %q is in a way that is not edited here; write it by hand, in the table of the chain:\n%s",
			path, ch.Name, strings.Join(k.storeLines(ch), "\n"))
	}
	e.add(k.Render(tables))
	after, err := k.Parse(path, e.after)
	if err != nil {
		return nil, err
	}
	if !onlyStore(c, after, i, ch, tables) {
		return nil, fmt.Errorf("cannot change %s: the change would say more than the store of chain %q", path, ch.Name)
	}
	return e, after.checkMode(path, mode)
}

// storeLines returns the lines that say where the state of a chain is.
func (k Kinds) storeLines(ch Chain) (lines []string) {
	b := Lines{keys: keys, prefix: "chain.*."}
	if ch.Store != k.store("").Store {
		b.Line(true, "store", Quote(ch.Store))
	}
	if ch.StoreTable != "" {
		b.Line(true, k.store(ch.Store).Table, Quote(ch.StoreTable))
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// oneKey is a line with one key whose value is a string.
var oneKey = regexp.MustCompile(`^\s*[a-z_]+\s*=\s*("[^"\\]*"|'[^']*')\s*(#.*)?$`)

// edit takes the lines of the old store out of the table of chain i, and puts those of the
// new one in. It reports whether the file is written so that this can be done.
func (e *StoreEdit) edit(c *Config, i int, ch Chain) bool {
	lines := strings.SplitAfter(string(e.before), "\n")
	line := func(n int) string { return strings.TrimRight(lines[n-1], "\r\n") }
	header := c.lines[at("chain", i)]
	if header < 1 || !strings.HasPrefix(strings.ReplaceAll(line(header), " ", ""), "[[chain]]") {
		return false
	}
	put := header + 1
	drop := map[int]bool{}
	for _, key := range []string{"store", e.kinds.store(c.Chains[i].Store).Table} {
		n, written := c.lines[at("chain", i, key)]
		if key == "" || !written {
			continue
		}
		if !oneKey.MatchString(line(n)) {
			return false
		}
		drop[n] = true
		if len(drop) == 1 {
			put = n
		}
	}
	if len(drop) == 0 { // before the state, as init writes it
		if n, written := c.lines[at("chain", i, "state")]; written {
			put = n
		}
	}
	var b strings.Builder
	for n := range lines {
		if n+1 == put {
			for _, new := range e.kinds.storeLines(ch) {
				if new != "" {
					e.Lines = append(e.Lines, "+ "+new)
					b.WriteString(new + "\n")
				}
			}
		}
		if drop[n+1] {
			e.Lines = append(e.Lines, "- "+line(n+1))
			continue
		}
		b.WriteString(lines[n])
	}
	e.after = []byte(b.String())
	return true
}

// add appends blocks to what is written.
func (e *StoreEdit) add(blocks string) {
	if blocks == "" {
		return
	}
	if !bytes.HasSuffix(e.after, []byte("\n")) {
		e.after = append(e.after, '\n')
	}
	e.after = append(e.after, blocks...)
	for line := range strings.Lines(strings.TrimPrefix(blocks, "\n")) {
		e.Lines = append(e.Lines, "+ "+strings.TrimSuffix(line, "\n"))
	}
}

// onlyStore reports whether two configs differ in the store of chain i, which is that of ch,
// and in tables that were added, alone.
func onlyStore(before, after *Config, i int, ch Chain, tables map[string]map[string]Section) bool {
	want := *before
	want.Chains = slices.Clone(before.Chains)
	want.Chains[i].Store, want.Chains[i].StoreTable = ch.Store, ch.StoreTable
	want.Tables = map[string]map[string]Section{}
	for first, named := range before.Tables {
		want.Tables[first] = maps.Clone(named)
	}
	for first, named := range tables {
		if want.Tables[first] == nil {
			want.Tables[first] = map[string]Section{}
		}
		for name := range named {
			want.Tables[first][name] = after.Tables[first][name] // with its defaults
		}
	}
	return bytes.Equal(want.Render(), after.Render())
}

// Write makes the change, and returns when it is durable. If the file has changed
// meanwhile, nothing is written.
func (e *StoreEdit) Write() error {
	return locked(e.path, func() error {
		now, _, err := read(e.path)
		if err != nil {
			return err
		}
		if !bytes.Equal(now, e.before) {
			return fmt.Errorf("%s was changed meanwhile; nothing was written to it", e.path)
		}
		info, err := os.Stat(e.path)
		if err == nil {
			err = durable.Replace(e.path, e.after, info)
		}
		if err != nil {
			return fmt.Errorf("cannot change %s: %w", e.path, err)
		}
		return nil
	})
}
