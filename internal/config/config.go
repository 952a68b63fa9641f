// Package config reads and writes privyseal.toml.
//
// It is strict: an unknown, missing or duplicate key and a value of the wrong
// type are errors with their line, and a file that everybody may write is
// refused. It looks at nothing but that file: whether keys and state exist is
// for their own packages to say. The only secrets that it can hold are AWS
// credentials; then nobody but its owner may read the file.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
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

	// Tables are the tables of providers, [TABLE.NAME], by both. A name is 1 to 40 of
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
	Name     string `toml:"name"` // tells the chains apart
	Provider string `toml:"provider"`
	// Table is the name of the provider's table that the chain belongs to, as its key
	// enclave has that of an [enclave.NAME]. "" where the provider has no tables.
	Table        string   `toml:"-"`
	Key          string   `toml:"key"`
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

// maxFileSize is far above what a thousand chains need, in bytes.
const maxFileSize = 1 << 20

// Load reads and checks the config file at path. A file that holds mistakes
// gives an *[Error] with all of them that can be told at once.
func (k Kinds) Load(path string) (*Config, error) {
	data, mode, err := read(path)
	if err != nil {
		return nil, err
	}
	c, err := k.Parse(path, data)
	if err != nil {
		return nil, err
	}
	return c, c.checkMode(path, mode)
}

// checkMode refuses a file with credentials that others may read.
func (c *Config) checkMode(path string, mode fs.FileMode) error {
	for _, t := range c.tables() {
		if key, secret := t.Secret(); secret && mode&0o077 != 0 {
			return newError(path, []Problem{{
				Line: c.Line(t.table, t.name, key),
				Text: fmt.Sprintf("there are credentials in this file, and others may read it (mode %#o)", mode),
				Next: cure.Command("chmod", "0600", path),
			}})
		}
	}
	return nil
}

// Parse reads the config file that holds data; path gives its name in errors
// and the folder that its paths are relative to.
func (k Kinds) Parse(path string, data []byte) (*Config, error) {
	doc := k.scan(data)
	c := &Config{dir: filepath.Dir(path), lines: doc.lines, kinds: k}
	if !doc.broken {
		doc.decode(data, c)
	}
	doc.addUnknown(c)
	if !doc.broken {
		c.fill()
		c.validate(&doc.problems)
	}
	if len(doc.problems) > 0 {
		return nil, newError(path, doc.problems)
	}
	return c, nil
}

// missing is a config that is not there, an [fs.ErrNotExist].
type missing string

func (path missing) Error() string { return "there is no " + string(path) }

func (missing) Unwrap() error { return fs.ErrNotExist }

// initCommand makes a chain in the home folder dir.
func initCommand(dir string) string {
	return cure.Command("privyseal", "init", "--home", dir, "--chain-id", "ID", "--node", "ADDR")
}

// read returns the content of the file at path if only its owner may write it,
// and its permissions.
func read(path string) ([]byte, fs.FileMode, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer, and a reload with it.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, cure.Add(missing(path), "make it with %s", initCommand(filepath.Dir(path)))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the config: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("cannot read the config: %w", err)
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, 0, cure.Add(fmt.Errorf("%s may be written by others (mode %#o)", path, info.Mode().Perm()), "%s", cure.Command("chmod", "go-w", path))
	case info.Size() > maxFileSize:
		return nil, 0, fmt.Errorf("%s has %d bytes; a config has at most %d", path, info.Size(), maxFileSize)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the config: %w", err)
	}
	return data, info.Mode().Perm(), nil
}

// fill puts the defaults in place of absent keys.
func (c *Config) fill() {
	absent := func(parts ...any) bool {
		_, found := c.lines[at(parts...)]
		return !found
	}
	if absent("log.level") {
		c.Log.Level = DefaultLevel
	}
	if absent("log.format") {
		c.Log.Format = DefaultFormat
	}
	for i := range c.Chains {
		ch := &c.Chains[i]
		if absent("chain", i, "name") {
			ch.Name = ch.ID
		}
		for j := range ch.Nodes {
			if absent("chain", i, "node", j, "name") {
				ch.Nodes[j].Name = fmt.Sprintf("node%d", j+1)
			}
		}
		if absent("chain", i, "height_burst") {
			ch.HeightBurst = DefaultHeightBurst
		}
		if absent("chain", i, "height_per_second") {
			ch.HeightPerSecond = DefaultHeightPerSecond
		}
		if absent("chain", i, "timeout") {
			ch.Timeout.Duration = DefaultTimeout
		}
		if absent("chain", i, "witness_wait") {
			ch.WitnessWait.Duration = DefaultWitnessWait
		}
	}
	for _, t := range c.tables() {
		t.Fill(c.written(t.table, t.name))
	}
}

// named is a table of a provider with its two names.
type named struct {
	table, name string
	Section
}

// tables returns all tables of providers, in a fixed order.
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

// Path returns where a path of the config lies, cleaned: relative ones start at the
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
