package nitro

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/provider"
)

func NewCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("nitro", "Build, run and attest an AWS Nitro Enclave",
		image.NewBuild(), image.NewMeasure(), image.NewPolicyFile(), image.NewKeyPolicy(),
		newNitroImportKeyCommand(a), newNitroIdentityCommand(a), newNitroAttestCommand(a),
		newNitroRunCommand(a), newNitroInfoCommand(a), newNitroConsoleCommand(a), newNitroStopCommand(a), newNitroProxyCommand(a))
}
