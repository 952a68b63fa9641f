package yubihsm

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/ops/yubihsm/audit"
	"privyseal/internal/ops/yubihsm/keys"
	"privyseal/internal/ops/yubihsm/setup"
	"privyseal/internal/ops/yubihsm/wrapped"
	"privyseal/internal/provider"
)

// newCommand returns `privyseal yubihsm`.
func newCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("yubihsm", "Set up, find and test YubiHSM 2 devices, make, attest, back up and copy their keys",
		newDetectCommand(), newListCommand(a), newTestCommand(a), setup.New(a.App),
		keys.NewGenerate(a.App), keys.NewImport(a.App), keys.NewAttest(a.App),
		wrapped.NewExport(a.App), wrapped.NewRestore(a.App), wrapped.NewClone(a.App), audit.NewCommand(a.App))
}
