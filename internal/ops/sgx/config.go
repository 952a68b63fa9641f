package sgx

import (
	"github.com/spf13/cobra"

	"privyseal/internal/config"
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
	Table: table, Flag: "sgx", Prefix: "sgx-", Options: options,
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
