package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"privyseal/internal/cure"
	"privyseal/internal/regular"
)

// maxFileSize is far above what a thousand chains need, in bytes.
const maxFileSize = 1 << 20

// Load reads and checks the config file at path. A file that holds mistakes
// gives an *[Error] with all of them that can be found at once.
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

// read returns the content of the file at path if only its owner may write it,
// and its permissions.
func read(path string) ([]byte, fs.FileMode, error) {
	data, info, err := regular.ReadOurs(path, maxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, cure.Add(missing(path), "make it with %s", initCommand(filepath.Dir(path)))
	}
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
		if absent("chain", i, "store") {
			ch.Store = c.kinds.store("").Store
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
