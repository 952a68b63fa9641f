package main

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
)

func newNitroCommand(a *cli.App) *cobra.Command {
	return cli.NewGroup("nitro", "Build, run and attest an AWS Nitro Enclave",
		newNitroBuildCommand(), newNitroMeasureCommand(), newNitroPolicyFileCommand(), newNitroPolicyCommand(),
		newNitroImportKeyCommand(a), newNitroIdentityCommand(a), newNitroAttestCommand(a),
		newNitroRunCommand(a), newNitroInfoCommand(a), newNitroConsoleCommand(a), newNitroStopCommand(a), newNitroProxyCommand(a))
}
