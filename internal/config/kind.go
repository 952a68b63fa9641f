package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is what a config has of one provider. The rooms of providers define theirs; what
// is strict about a config, its lines and its file, follow from it.
type Kind struct {
	Provider string // as `provider` of a chain has it

	// Table is the first name of the provider's own tables, [TABLE.NAME], one of which
	// each of its chains names by a key TABLE; "" is none. Noun says what such a table
	// stands for, as in "an enclave".
	Table, Noun string
	// Keys are the keys in such a table; one in a table below it has a name as in
	// "credentials.session_token".
	Keys []Key
	// Decode returns what the tables hold, by name. unmarshal fills a struct with what it
	// has of the file.
	Decode func(unmarshal func(any) error) (map[string]Section, error)
	// Whole finds what is wrong with several chains or tables together. A problem stands
	// at the line of a place, as [Config.Line] has it.
	Whole func(c *Config, fail func(text string, place ...any))

	// Refused says why a key of a chain is not for this provider.
	Refused map[string]string
	// Identity says how a chain comes to the key by which nodes know it; nil is a key file.
	Identity func(c *Config) string
	// Apart says that its chains belong to a process of their own, which is given them
	// once; it is named in "chain x, which is in an enclave".
	Apart string
	// LowPorts says that its signer listens on ports below 1024.
	LowPorts bool
}

// Section is one [TABLE.NAME] of a provider.
type Section interface {
	// Fill puts the defaults in place of keys that are not written.
	Fill(written func(key string) bool)
	// Check calls fail with each key whose value cannot be, and what is wrong with it, as
	// in "cid", "is not from 4 to 4294967294".
	Check(written func(key string) bool, fail func(key, wrong string))
	// Render writes the keys, those that are not set as comments.
	Render(w *Lines)
	// Secret reports whether the file is for its owner alone.
	Secret() (key string, secret bool)
}

// Kinds are the providers of a build. They read and write its configs.
type Kinds []Kind

// Of returns the kind of a provider, the zero Kind of one that this build lacks.
func (k Kinds) Of(provider string) Kind {
	for _, kind := range k {
		if kind.Provider == provider {
			return kind
		}
	}
	return Kind{}
}

// has reports whether a provider is in this build.
func (k Kinds) has(provider string) bool {
	return slices.ContainsFunc(k, func(kind Kind) bool { return kind.Provider == provider })
}

// Kind returns the kind of a chain.
func (c *Config) Kind(ch Chain) Kind { return c.kinds.Of(ch.Provider) }

// LowPorts reports whether a signer of this config listens on ports below 1024.
func (c *Config) LowPorts() bool {
	return slices.ContainsFunc(c.kinds, func(k Kind) bool { return k.LowPorts && len(c.Tables[k.Table]) > 0 })
}

// table returns the kind whose tables have the first name.
func (k Kinds) table(name string) (Kind, bool) {
	i := slices.IndexFunc(k, func(kind Kind) bool { return kind.Table == name && name != "" })
	if i < 0 {
		return Kind{}, false
	}
	return k[i], true
}

// providers returns the names of all providers, quoted.
func (k Kinds) providers() string {
	var b strings.Builder
	for i, kind := range k {
		switch {
		case i > 0 && i == len(k)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", kind.Provider)
	}
	return b.String()
}

// ChangedTables returns the first names of those tables of providers that are not the
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

// Lines is a table that is written.
type Lines struct {
	strings.Builder
	title  string
	keys   []Key  // with the comments
	prefix string // of their names in this table
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

// render returns the blocks of tables.
func (k Kinds) render(tables map[string]map[string]Section) string {
	var b strings.Builder
	for _, kind := range k {
		for _, name := range slices.Sorted(maps.Keys(tables[kind.Table])) {
			b.WriteString(kind.render(name, tables[kind.Table][name]))
		}
	}
	return b.String()
}
