package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// short names it, as in `provider "x"`, and has says what a chain gives to it.
func (k Kind) short() string {
	if k.Store != "" {
		return fmt.Sprintf("store %q", k.Store)
	}
	return fmt.Sprintf("provider %q", k.Provider)
}

func (k Kind) has() string {
	if k.Store != "" {
		return "state"
	}
	return "key"
}

// find returns the first kind of which is says so, the zero Kind where there is none.
func (k Kinds) find(is func(Kind) bool) Kind {
	if i := slices.IndexFunc(k, is); i >= 0 {
		return k[i]
	}
	return Kind{}
}

// provider returns the kind of a provider, the zero Kind of one that this build lacks.
func (k Kinds) provider(name string) Kind {
	return k.find(func(kind Kind) bool { return kind.Provider == name && name != "" })
}

// store returns the kind of a store, the first one for "".
func (k Kinds) store(name string) Kind {
	return k.find(func(kind Kind) bool { return kind.Store != "" && (kind.Store == name || name == "") })
}

// of returns the kinds of a chain: that of its provider, that of its store.
func (k Kinds) of(ch Chain) [2]Kind { return [2]Kind{k.provider(ch.Provider), k.store(ch.Store)} }

// lacks returns what a chain names, provider and store, that is not in this build.
func (k Kinds) lacks(ch Chain) (names []string) {
	if ch.Provider != "" && k.provider(ch.Provider).Provider == "" {
		names = append(names, ch.Provider)
	}
	if ch.Store != "" && k.store(ch.Store).Store == "" {
		names = append(names, ch.Store)
	}
	return names
}

// Kind returns the kind of a chain's provider.
func (c *Config) Kind(ch Chain) Kind { return c.kinds.provider(ch.Provider) }

// Named returns the tables that a chain names, by their first name.
func (c *Config) Named(ch Chain) map[string]string {
	names := map[string]string{}
	for i, kind := range c.kinds.of(ch) {
		if kind.Table != "" {
			names[kind.Table] = [2]string{ch.Table, ch.StoreTable}[i]
		}
	}
	return names
}

// LowPorts reports whether a signer of this config listens on ports below 1024.
func (c *Config) LowPorts() bool {
	return slices.ContainsFunc(c.kinds, func(k Kind) bool { return k.LowPorts && len(c.Tables[k.Table]) > 0 })
}

// table returns the kind whose tables have the first name.
func (k Kinds) table(name string) (Kind, bool) {
	kind := k.find(func(kind Kind) bool { return kind.Table == name && name != "" })
	return kind, kind.Table != ""
}

// providers returns the names of all providers, quoted.
func (k Kinds) providers() string { return k.names(func(kind Kind) string { return kind.Provider }) }

// stores returns the names of all stores, quoted.
func (k Kinds) stores() string { return k.names(func(kind Kind) string { return kind.Store }) }

func (k Kinds) names(of func(Kind) string) string {
	var names []string
	for _, kind := range k {
		if name := of(kind); name != "" {
			names = append(names, strconv.Quote(name))
		}
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names, "")
}

// ChangedTables returns the first names of those tables of providers and stores that are not the
// same in two configs.
func ChangedTables(a, b *Config) (names []string) {
	for _, kind := range b.kinds {
		same := len(a.Tables[kind.Table]) == len(b.Tables[kind.Table])
		for name, s := range a.Tables[kind.Table] {
			other, there := b.Tables[kind.Table][name]
			same = same && there && kind.render(name, s) == kind.render(name, other)
		}
		if !same {
			names = append(names, kind.Table)
		}
	}
	return names
}

// Line writes a key with its comment; the whole line is a comment if it is not set.
func (b *Lines) Line(set bool, key, value string) {
	if !set {
		b.WriteString("# ")
	}
	b.WriteString(key + " = " + value)
	if comment := Comment(b.keys, b.prefix+key); comment != "" {
		b.WriteString(" # " + comment)
	}
	b.WriteByte('\n')
}

// Below begins a table in the table.
func (b *Lines) Below(name string) {
	b.prefix = name + "."
	fmt.Fprintf(b, "\n[%s.%s]\n", b.title, name)
}

// render returns the [TABLE.NAME] block, an empty line before it.
func (k Kind) render(name string, s Section) string {
	b := &Lines{title: k.Table + "." + name, keys: k.Keys}
	fmt.Fprintf(b, "\n[%s]\n", b.title)
	s.Render(b)
	return b.String()
}

// Render returns the blocks of tables, an empty line before each.
func (k Kinds) Render(tables map[string]map[string]Section) string {
	var b strings.Builder
	for _, kind := range k {
		for _, name := range slices.Sorted(maps.Keys(tables[kind.Table])) {
			b.WriteString(kind.render(name, tables[kind.Table][name]))
		}
	}
	return b.String()
}

// Comment returns the comment of a key in the file.
func Comment(keys []Key, name string) string {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return ""
	}
	return keys[i].Comment
}
