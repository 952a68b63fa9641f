package sgx

import (
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/enclavechain"
	"privyseal/internal/enclavecommand"
)

// table is the first name of [sgx.NAME], and the key by which a chain names one.
const table = "sgx"

// DefaultGramine is the launcher where nothing names another one.
const DefaultGramine = "gramine-sgx"

// Enclave is one SGX enclave. Paths are relative to the folder of the config file.
type Enclave struct {
	// Folder has the program, its policy, and the signed manifest, as `privyseal sgx manifest`
	// and gramine-sgx-sign left them.
	Folder     string
	GramineSGX string
	// Collateral is Intel's, for this platform; "" is none.
	Collateral string
}

// options are the keys of [sgx.NAME].
var options = config.Options[Enclave]{
	{Name: "folder", Of: func(e *Enclave) any { return &e.Folder }, Required: true, Path: true, Comment: "folder of the signed enclave",
		More: "`privyseal sgx manifest` makes it, and gramine-sgx-sign signs what is in it."},
	{Name: "gramine_sgx", Of: func(e *Enclave) any { return &e.GramineSGX }, Standard: DefaultGramine, Example: DefaultGramine, Comment: "Gramine's launcher: a name in $PATH, or a path"},
	{Name: "collateral", Of: func(e *Enclave) any { return &e.Collateral }, Path: true, Example: "platform.json", Comment: "what Intel says of this platform, to verify its quotes here",
		More: "`privyseal sgx collateral` fetches it. `privyseal check` says when it ends."},
}

// Kind is what a config has of SGX enclaves.
func Kind() config.Kind {
	const measured = "of a chain in an enclave is in the measured policy of the enclave"
	return config.Kind{
		Table: table, Noun: "an enclave", Apart: "in an enclave",
		Keys:    options.Keys(),
		Decode:  decode,
		Whole:   enclavechain.Whole(table),
		Refused: map[string]string{"max_height": measured, "allow_sign_bytes": measured, "allow_raw_bytes": measured},
		Identity: func(c *config.Config) string {
			return fmt.Sprintf("while this node is not in the config yet, %s has the enclave make one; then add identity = \"identity.sealed\"",
				cure.Command("privyseal", "sgx", "identity", "--home", c.Path(".")))
		},
	}
}

func decode(values map[string]any, fail func(key, wrong string)) config.Section {
	e := &Enclave{}
	options.Decode(e, values, fail)
	return e
}

// Tables returns the tables of a config that has these enclaves.
func Tables(enclaves map[string]Enclave) map[string]map[string]config.Section {
	all := map[string]config.Section{}
	for name, e := range enclaves {
		all[name] = &e
	}
	return map[string]map[string]config.Section{table: all}
}

// Enclaves returns the enclaves of a config, by name.
func Enclaves(c *config.Config) map[string]Enclave {
	all := map[string]Enclave{}
	for name, s := range c.Tables[table] {
		if e, ok := s.(*Enclave); ok {
			all[name] = *e
		}
	}
	return all
}

// NewEnclave returns an enclave with every default.
func NewEnclave(folder string) Enclave {
	e := Enclave{Folder: folder}
	e.Fill(func(string) bool { return false })
	return e
}

// Fill implements [config.Section].
func (e *Enclave) Fill(written func(key string) bool) { options.Fill(e, written) }

// Check implements [config.Section].
func (e *Enclave) Check(written func(key string) bool, fail func(key, wrong string)) {
	options.Check(e, written, fail)
}

// Secret implements [config.Section].
func (e *Enclave) Secret() (key string, secret bool) { return options.Secret(e) }

// Render implements [config.Section].
func (e *Enclave) Render(w *config.Lines) { options.Render(e, w) }

// enclaveFlags say which enclave a command works with.
type enclaveFlags struct {
	enclavecommand.Choice[Enclave, *Enclave]
	cmd *cobra.Command // whose operator hears of a long launch; nil: nobody does
}

var enclaves = enclavecommand.Enclaves[Enclave, *Enclave]{
	Flag: "sgx", Prefix: "sgx-", Options: options, Of: Enclaves,
	New: func() Enclave { return NewEnclave("") },
	Required: func(e *Enclave) string {
		if e.Folder == "" {
			return "--sgx-folder FOLDER is missing: the one that `privyseal sgx manifest` wrote, signed with gramine-sgx-sign"
		}
		return ""
	},
}

// Add implements [enclavecommand.Flags].
func (f *enclaveFlags) Add(cmd *cobra.Command) {
	f.cmd = cmd
	enclaves.Add(cmd, &f.Choice)
}

// enclaveNamed returns the flags that name an enclave of the config.
func enclaveNamed(cmd *cobra.Command, name string) *enclaveFlags {
	f := &enclaveFlags{cmd: cmd}
	f.Name = name
	return f
}
