package nitro

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

// enclaveNamed returns the flags that name an enclave of the config.
func enclaveNamed(name string) *enclaveFlags {
	f := &enclaveFlags{}
	f.Name = name
	return f
}

// RaiseState implements [home.StateMaker].
func (Holder) RaiseState(ch config.Chain) error {
	return cli.Usagef("the state of chain %q belongs to an enclave, which does not trust its host: only a state_floor in the image's policy raises it", ch.Name)
}

// NewState implements [home.StateMaker].
func (Holder) NewState(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, from *home.Start) error {
	return commands.NewState(cmd, a, c, ch, from, enclaveNamed(ch.Table), "image",
		"now go back to an image without that floor ("+a.Command("nitro stop")+", and `eif`), start the service, and take this one out of the key policy: as long as KMS admits it, whoever takes over this instance can have another new state made")
}
