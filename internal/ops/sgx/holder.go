package sgx

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/enclavecommand"
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// entry is what all commands want of the provider.
func entry() provider.Entry {
	return commands.Entry(provider.Entry{
		Where: "an Intel SGX enclave", Unit: "privyseal-sgx", Form: "sealed",
		Imported: "a backup of the key", Kind: Kind(), Holder: Holder{},
		AtHome: []string{"sgx recover", "sgx cloud-wrap", "sgx attest", "sgx identity", "sgx etcd-client"},
	})
}

// Holder is the provider whose keys are in SGX enclaves, and sealed in files.
type Holder struct{ enclavecommand.Records }

// Public implements [provider.Holder].
func (Holder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return commands.Read(c.Path(ch.Key), ch.ID)
}

// Identity implements [provider.Holder].
func (Holder) Identity(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return commands.Read(c.Path(ch.Identity), "")
}

// Check implements [provider.Checker].
func (Holder) Check(_ context.Context, r *provider.Report) {
	for _, name := range slices.Sorted(maps.Keys(enclaves.Of(r.Config))) {
		checkEnclave(r, name)
	}
}

// Accepts implements [provider.StateKeeper].
func (h Holder) Accepts(m watermark.Mark) error {
	return cure.Add(h.Records.Accepts(m), "for a key from outside, `privyseal sgx make-backup` makes a state with the backup, where the key is")
}

// CheckState implements [provider.StateKeeper].
func (Holder) CheckState(r *provider.Report, line int, m watermark.Mark) {
	enclavecommand.CheckRecord(r, line, m)
	r.Add(provider.Unsure, line, "state", "whoever takes this host over can hand an older one to an enclave that starts: SGX has no counter that a host cannot set back; a mark in a database or a witness finds it, see doc/sgx.md", "")
}

// Lost implements [provider.StateKeeper].
func (Holder) Lost(c *config.Config, ch config.Chain, damaged bool) string {
	state := "--home " + shell.Word(c.Path(".")) + " --chain-id " + shell.Word(ch.Name)
	begin := "put the file back if its disk still has it"
	if damaged {
		begin = "keep the file, move it aside"
	}
	return fmt.Sprintf("%s, or run `privyseal state import %s FILE` if it was exported; if it is lost for good, only another enclave, whose policy has a state_floor, can make a new one: see doc/sgx.md, \"The state is lost\"", begin, state)
}

// RaiseState implements [home.StateMaker].
func (Holder) RaiseState(ch config.Chain) error {
	return cli.Usagef("the state of chain %q belongs to an enclave, which does not trust its host: only a state_floor in the enclave's policy raises it", ch.Name)
}

// NewState implements [home.StateMaker].
func (Holder) NewState(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, from *home.Start) error {
	return commands.NewState(cmd, a, c, ch, from, enclaveNamed(cmd, ch.Table), "enclave",
		"now go back to an enclave without that floor (`folder` in the config, and with seal mrenclave the key that was sealed there), and start the service: as long as the other one is here, whoever takes over this host can have another new state made")
}
