package enclavecommand

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
)

// DefaultName is the name of the only enclave of most hosts.
const DefaultName = "main"

// Section is a pointer to the table of an enclave in the config.
type Section[E any] interface {
	*E
	config.Section
}

// Choice is which enclave a command works with: one of the config, or a new one of the flags.
// What flags say of one of the config has to be what the config says: `privyseal start` would
// launch that one, and one launched otherwise is in its way.
type Choice[E any, S Section[E]] struct {
	Name string // "": the only one of the config, or [DefaultName]
	Want E

	set *pflag.FlagSet // nil without a command line
}

// Enclaves is what a config has of one kind of enclave.
type Enclaves[E any, S Section[E]] struct {
	Table    string // the first name of [TABLE.NAME], and the key by which a chain names one
	Flag     string // that names one: --enclave
	Prefix   string // of the flags of Options
	Options  config.Options[E]
	Required func(e *E) (wrong string) // "" if the flags are enough to make a new one
}

// Kind returns what a config has of these enclaves. whole finds what is wrong with several of
// them, or of their chains, together.
func (k Enclaves[E, S]) Kind(commands Kind, whole func(c *config.Config, fail func(text string, place ...any))) config.Kind {
	measured := "of a chain in an enclave is in the measured policy of the " + commands.Program
	return config.Kind{
		Table: k.Table, Noun: "an enclave", Apart: "in an enclave",
		Keys: k.Options.Keys(),
		Decode: func(values map[string]any, fail func(key, wrong string)) config.Section {
			e := S(new(E))
			k.Options.Decode(e, values, fail)
			return e
		},
		Whole:   whole,
		Refused: map[string]string{"max_height": measured, "allow_sign_bytes": measured, "allow_raw_bytes": measured},
		Identity: func(c *config.Config) string {
			return fmt.Sprintf("while this node is not in the config yet, %s has the enclave make one; then add identity = %q",
				cure.Command("privyseal", commands.Provider, "identity", "--home", c.Path(".")), commands.Identity)
		},
	}
}

// Of returns the enclaves of a config, by name.
func (k Enclaves[E, S]) Of(c *config.Config) map[string]E {
	all := map[string]E{}
	for name, s := range c.Tables[k.Table] {
		if e, ok := s.(S); ok {
			all[name] = *e
		}
	}
	return all
}

// Tables returns the tables of a config that has one of these enclaves.
func (k Enclaves[E, S]) Tables(name string, e E) map[string]map[string]config.Section {
	return map[string]map[string]config.Section{k.Table: {name: S(&e)}}
}

// New returns an enclave with every default.
func (k Enclaves[E, S]) New() (e E) {
	k.Options.Fill(&e, func(string) bool { return false })
	return e
}

// Add adds the flags.
func (k Enclaves[E, S]) Add(cmd *cobra.Command, f *Choice[E, S]) {
	fl := cmd.Flags()
	f.set, f.Want = fl, k.New()
	fl.StringVar(&f.Name, k.Flag, "", "name of the enclave in the config (default "+DefaultName+")")
	cli.AddOptions(fl, k.Prefix, k.Options, &f.Want)
}

// Choose returns the enclave, and whether the config does not have it yet. Paths
// are absolute.
func (k Enclaves[E, S]) Choose(c *config.Config, f *Choice[E, S]) (name string, e E, isNew bool, err error) {
	name = cmp.Or(f.Name, DefaultName)
	if c != nil {
		if f.Name == "" && len(k.Of(c)) == 1 {
			name = slices.Collect(maps.Keys(k.Of(c)))[0]
		}
		if e, known := k.Of(c)[name]; known {
			k.Options.Paths(&e, func(path string) (string, error) { return c.Path(path), nil })
			return name, e, false, k.agree(name, e, f)
		}
	}
	if wrong := k.Required(&f.Want); wrong != "" {
		return "", e, false, cli.Usagef("%s", wrong)
	}
	e, err = k.new(name, f)
	return name, e, true, err
}

// given reports whether the flag of a key stands on the command line.
func (k Enclaves[E, S]) given(f *Choice[E, S], key string) bool {
	return f.set != nil && f.set.Changed(cli.OptionFlag(k.Prefix, key))
}

// agree compares the flags with an enclave of the config.
func (k Enclaves[E, S]) agree(name string, e E, f *Choice[E, S]) error {
	want := f.Want
	if err := k.Options.Paths(&want, filepath.Abs); err != nil {
		return err
	}
	for _, op := range k.Options {
		ours, configs := op.Text(&want), op.Text(&e)
		if !k.given(f, op.Name) || ours == configs || op.Path && sameFile(ours, configs) {
			continue
		}
		has := fmt.Sprintf("%s = %s", op.Name, configs)
		if configs == "" {
			has = "no " + op.Name
		}
		flag := cli.OptionFlag(k.Prefix, op.Name)
		return cli.Usagef("enclave %s of the config has %s, and --%s says %s; leave --%s out, correct the config, or give --%s another name", name, has, flag, f.set.Lookup(flag).Value, flag, k.Flag)
	}
	return nil
}

// new returns an enclave of the flags alone, by the rules of the config.
func (k Enclaves[E, S]) new(name string, f *Choice[E, S]) (e E, err error) {
	if !config.ValidTable(name) {
		return e, cli.Usagef("--%s %q is not a name: 1 to 40 of A-Z a-z 0-9 _ -", k.Flag, name)
	}
	e = f.Want
	S(&e).Check(func(key string) bool { return k.given(f, key) }, func(key, wrong string) {
		err = cmp.Or(err, cli.Usagef("--%s %s", cli.OptionFlag(k.Prefix, key), wrong))
	})
	if err == nil {
		err = k.Options.Paths(&e, filepath.Abs)
	}
	return e, err
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
