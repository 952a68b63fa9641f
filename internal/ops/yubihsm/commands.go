package yubihsm

import (
	"cmp"
	"io"

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
	group := cli.NewGroup("yubihsm", "Set up, find and test YubiHSM 2 devices, make, attest, back up and copy their keys",
		newDetectCommand(), newListCommand(a), newTestCommand(a), setup.New(a.App),
		keys.NewGenerate(a.App), keys.NewImport(a.App), keys.NewAttest(a.App),
		wrapped.NewExport(a.App), wrapped.NewRestore(a.App), wrapped.NewClone(a.App), audit.NewCommand(a.App))
	for _, cmd := range group.Commands() {
		cmd.RunE = written(cmd.RunE)
	}
	return group
}

// written has a command fail whose result could not be written, as on a full disk: what is
// lost may be the public key of a key that was made.
func written(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		out := &output{Writer: cmd.OutOrStdout()}
		cmd.SetOut(out)
		return cmp.Or(run(cmd, args), out.failed)
	}
}

// output remembers why something could not be written.
type output struct {
	io.Writer
	failed error
}

func (o *output) Write(data []byte) (int, error) {
	n, err := o.Writer.Write(data)
	o.failed = cmp.Or(o.failed, err)
	return n, err
}
