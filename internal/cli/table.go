package cli

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"privyseal/internal/config"
)

// TableFlags are the flags by which a new chain names a table of the config, [TABLE.NAME],
// or has one made: one for NAME, and one for each of its keys.
type TableFlags[T any, S interface {
	*T
	config.Section
}] struct {
	Name string

	given   T // by the flags
	table   string
	options config.Options[T]
	set     func(flag string) bool
}

// Add adds the flags, whose names begin with the table's. Each table has the first of the
// options.
func (f *TableFlags[T, S]) Add(fl *pflag.FlagSet, table string, options config.Options[T]) {
	f.table, f.options, f.set = table, options, fl.Changed
	S(&f.given).Fill(func(string) bool { return false })
	fl.StringVar(&f.Name, table, "main", fmt.Sprintf("name of the [%s.NAME] in the config; --%s makes a new one", table, f.Flag(options[0].Name)))
	AddOptions(fl, table+"-", options, &f.given)
}

// Flag returns the name of the flag for a key.
func (f *TableFlags[T, S]) Flag(key string) string { return OptionFlag(f.table+"-", key) }

// In returns the table that a new chain in a config names, nil for no config yet, and what
// has to be added to the config for it: a table that is there is not changed.
func (f *TableFlags[T, S]) In(c *config.Config) (s S, added map[string]map[string]config.Section, err error) {
	there := false
	if c != nil {
		s, there = c.Tables[f.table][f.Name].(S)
	}
	given, missing := "", ""
	for _, op := range f.options {
		switch flag := f.Flag(op.Name); {
		case f.set(flag):
			given = cmp.Or(given, flag)
		case op.Required && !op.FileOnly:
			missing = cmp.Or(missing, flag)
		}
	}
	switch {
	case there && given != "":
		return nil, nil, Usagef("--%s: there is a [%s.%s] in %s already; change it there, or give the new one another name, --%s NAME", given, f.table, f.Name, config.FileName, f.table)
	case there:
		return s, nil, nil
	case missing != "":
		return nil, nil, Usagef("--%s is missing: there is no [%s.%s] in %s yet", missing, f.table, f.Name, config.FileName)
	}
	if err := f.options.Paths(&f.given, filepath.Abs); err != nil {
		return nil, nil, err
	}
	s = &f.given
	s.Check(func(key string) bool { return f.set(f.Flag(key)) }, func(key, wrong string) {
		err = cmp.Or(err, Usagef("--%s %s", f.Flag(key), f.inFlags(wrong)))
	})
	return s, map[string]map[string]config.Section{f.table: {f.Name: s}}, err
}

// Pick is what was chosen by flags for a new chain in a config, nil for no config yet: the
// name of a table, and what has to be added to the config for it.
type Pick func(c *config.Config) (name string, added map[string]map[string]config.Section, err error)

// Pick returns the name of the table, and otherwise what In returns.
func (f *TableFlags[T, S]) Pick(c *config.Config) (name string, added map[string]map[string]config.Section, err error) {
	_, added, err = f.In(c)
	return f.Name, added, err
}

// inFlags says by its flags what is wrong with keys of the config.
func (f *TableFlags[T, S]) inFlags(wrong string) string {
	words := []string{" = true", ""}
	for _, op := range f.options {
		if strings.Contains(op.Name, "_") { // which no other word does
			words = append(words, op.Name, "--"+f.Flag(op.Name))
		}
	}
	return strings.NewReplacer(words...).Replace(wrong)
}
