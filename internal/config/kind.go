package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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

// laterProviders are named in the design and are not in this build.
var laterProviders = []string{"sgx", "yubihsm", "pkcs11", "tpm", "sev", "tdx"}

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

// Comment returns the comment of a key in the file.
func Comment(keys []Key, name string) string {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return ""
	}
	return keys[i].Comment
}
