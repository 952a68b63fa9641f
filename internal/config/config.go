// Package config reads and writes privyseal.toml.
//
// It is strict: an unknown, missing or duplicate key and a value of the wrong
// type are errors with their line, and a file that everybody may write is
// refused. It looks at nothing but that file: whether keys and state exist is
// for their own packages to say. The only secrets that it can hold are AWS
// credentials; then nobody but its owner may read the file.
package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// FileName is the name of the config file in the home folder.
const FileName = "privyseal.toml"

// The defaults of absent keys.
const (
	DefaultLevel           = "info"
	DefaultFormat          = "auto"
	DefaultHeightBurst     = watermark.DefaultHeightBurst
	DefaultHeightPerSecond = watermark.DefaultHeightPerSecond
	DefaultTimeout         = session.DefaultIdle
	DefaultWitnessWait     = witness.DefaultWait
)

// The bounds of Chain.Timeout.
const (
	MinTimeout = 5 * time.Second
	MaxTimeout = 5 * time.Minute
)

// The bounds of Chain.Witness and Chain.WitnessWait.
const (
	MaxWitnesses   = 8
	MinWitnessWait = time.Second
	MaxWitnessWait = 10 * time.Minute
)

// Config is one privyseal.toml. After [Load] every default is filled in. What the keys
// mean, their bounds and their defaults stand in keys.go.
type Config struct {
	Listen string `toml:"listen"`

	Log Log `toml:"log"`

	// Chains has at least one entry, each name once.
	Chains []Chain `toml:"chain"`

	// Tables are the tables of providers and stores, [TABLE.NAME], by both. A name is 1 to 40 of
	// A-Z a-z 0-9 _ -.
	Tables map[string]map[string]Section `toml:"-"`

	dir   string
	lines map[string]int
	kinds Kinds
}

// Log says what is logged, and how. Logs go to standard error.
type Log struct {
	Level  string `toml:"level"`
	Format string `toml:"format"`
}

// Chain is one chain that is signed for, with one key. Paths are relative to
// the folder of the config file; see [Config.Path].
type Chain struct {
	ID       string `toml:"id"`
	Name     string `toml:"name"` // distinguishes the chains
	Provider string `toml:"provider"`
	// Table is the name of the provider's table that the chain belongs to, as its key
	// enclave has that of an [enclave.NAME]. "" where the provider has no tables.
	Table string `toml:"-"`
	Key   string `toml:"key"`
	Store string `toml:"store"` // "" before it is filled in: the first one of the build
	// StoreTable is to Store what Table is to Provider.
	StoreTable   string   `toml:"-"`
	State        string   `toml:"state"`
	Identity     string   `toml:"identity"` // "" for none
	ImportedFrom []string `toml:"imported_from"`
	// Nodes has at least one entry. They share the chain's one mark.
	Nodes           []Node   `toml:"node"`
	Witness         []string `toml:"witness"` // see witness.CheckAddr
	WitnessWait     Duration `toml:"witness_wait"`
	MaxHeight       int64    `toml:"max_height"` // 0: no bound
	HeightBurst     int64    `toml:"height_burst"`
	HeightPerSecond int64    `toml:"height_per_second"`
	Timeout         Duration `toml:"timeout"`
	AllowSignBytes  bool     `toml:"allow_sign_bytes"`
	AllowRawBytes   bool     `toml:"allow_raw_bytes"`
}

// Node is one node of a chain.
type Node struct {
	Name    string  `toml:"name"`
	Addr    string  `toml:"addr"`     // what session.ParseAddr reads
	PeerUID *uint32 `toml:"peer_uid"` // nil: not checked
}

// Duration is a time.Duration that is written as in "10s" or "2m".
type Duration struct{ time.Duration }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

// initCommand makes a chain in the home folder dir.
func initCommand(dir string) string {
	return cure.Command("privyseal", "init", "--home", dir, "--chain-id", "ID", "--node", "ADDR")
}

// named is a table of a provider or store with its two names.
type named struct {
	table, name string
	Section
}

// tables returns all tables of providers and stores, in a fixed order.
func (c *Config) tables() (list []named) {
	for _, k := range c.kinds {
		for _, name := range slices.Sorted(maps.Keys(c.Tables[k.Table])) {
			list = append(list, named{k.Table, name, c.Tables[k.Table][name]})
		}
	}
	return list
}

// written returns a function that reports whether a key of a table stands in the file.
func (c *Config) written(table, name string) func(key string) bool {
	return func(key string) bool {
		_, found := c.lines[at(table, name, key)]
		return found
	}
}

// Path returns where a path of the config is, cleaned: relative ones start at the
// folder of the config file. An empty one stays empty.
func (c *Config) Path(p string) string {
	switch {
	case p == "":
		return p
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	}
	return filepath.Join(c.dir, p)
}

// Line returns the line, from 1, on which a key stands. Parts name it from the
// top, as in Line("chain", 0, "node", 1, "addr"). For an absent key it is the
// line of what should hold it, and 0 if that is absent too.
func (c *Config) Line(parts ...any) int {
	return lineOf(c.lines, at(parts...))
}

// Find returns the chain with the name s, or else all chains with the id s.
func (c *Config) Find(s string) []Chain {
	var found []Chain
	for _, ch := range c.Chains {
		if ch.Name == s {
			return []Chain{ch}
		}
		if ch.ID == s {
			found = append(found, ch)
		}
	}
	return found
}

// Key is one key of a config, declared once: what may stand there, the comment after it
// in the file, and doc/reference/config.md follow from it.
type Key struct {
	Name string // its path, an index into an array written as *
	// Type is "a string", "strings", "a number", "a duration", "true or false", "a table" or
	// "tables".
	Type string
	// Default is what an absent key means, as the file would have it; [Required] for a key
	// that may not be absent, "" for one that has no value then, or whose default is in More or Comment.
	Default string
	Comment string // stands in the file, in the reference, and in the help of a flag for the key
	More    string // stands in the reference alone
}

// Required is the Default of a key that may not be absent.
const Required = "required"

// Kind is what a config has of one provider, or of one store. Their rooms define theirs;
// what is strict about a config, its lines and its file, follow from it.
type Kind struct {
	Provider string // as `provider` of a chain has it; "" for a store
	Store    string // as `store` of a chain has it; "" for a provider

	// Table is the first name of its own tables, [TABLE.NAME], one of which
	// each of its chains names by a key TABLE; "" is none. Noun says what such a table
	// stands for, as in "an enclave".
	Table, Noun string
	// Keys are the keys in such a table; one in a table below it has a name as in
	// "credentials.session_token".
	Keys []Key
	// Decode returns what a table holds: values of the types of Keys, by key. It calls fail
	// as [Section.Check] does, with values that have no place in memory.
	Decode func(values map[string]any, fail func(key, wrong string)) Section
	// Whole finds what is wrong with several chains or tables together. A problem stands
	// at the line of a place, as [Config.Line] has it.
	Whole func(c *Config, fail func(text string, place ...any))

	// Refused says why a key of a chain is not for this provider or store.
	Refused map[string]string

	// The following are of providers.

	// Identity says how a chain comes to the key by which nodes know it; nil is a key file.
	Identity func(c *Config) string
	// Apart says that its chains belong to a process of their own, which is given them
	// once; it is named in "chain x, which is in an enclave".
	Apart string
	// LowPorts says that its signer listens on ports below 1024.
	LowPorts bool
}

// Section is one [TABLE.NAME] of a provider or store.
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

// Kinds are the providers and stores of a build. They read and write its configs. A chain
// that names no store has the first one.
type Kinds []Kind

// Lines is a table that is written.
type Lines struct {
	strings.Builder
	title  string
	keys   []Key  // with the comments
	prefix string // of their names in this table
}
