package yubihsm

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/provider"
)

// newCommand returns `privyseal yubihsm`.
func newCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("yubihsm", "Back up and copy the keys of YubiHSM 2 devices",
		newExport(a.App), newRestore(a.App), newClone(a.App))
}
