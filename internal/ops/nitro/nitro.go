package nitro

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/provider"
)

func NewCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("nitro", "Build, run and attest an AWS Nitro Enclave",
		image.NewBuild(), image.NewMeasure(), image.NewImagePolicy(), image.NewKeyPolicy(),
		renamed("policy-file", image.NewImagePolicy()), renamed("policy", image.NewKeyPolicy()),
		newNitroImportKeyCommand(a), commands.NewIdentity(a), commands.NewClient(a), commands.NewAttest(a),
		newNitroRunCommand(a), newNitroInfoCommand(a), newNitroConsoleCommand(a), newNitroStopCommand(a), newNitroProxyCommand(a), newNitroCaptureCommand(a))
}

// renamed returns a command under its old name, hidden. It names the new one on stderr;
// cobra's Deprecated would write to stdout, into the policy.
func renamed(old string, cmd *cobra.Command) *cobra.Command {
	name, run := cmd.Name(), cmd.RunE
	cmd.Use = strings.Replace(cmd.Use, name, old, 1)
	cmd.Hidden = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := cmd.Parent().CommandPath() + " " + name
		fmt.Fprintf(cmd.ErrOrStderr(), "`%s` is now `%s`; the next release drops the old name\n", cmd.CommandPath(), now)
		return run(cmd, args)
	}
	return cmd
}
