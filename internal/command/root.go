// Package command is the operator's commands, one file each. It knows no provider: what
// one has of a command comes from the table of the build ([home.Build]), so that a line
// there adds one. Nothing here signs.
package command

import (
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/command/check"
	"privyseal/internal/command/screen"
	"privyseal/internal/command/state"
	"privyseal/internal/command/status"
	"privyseal/internal/command/verify"
	"privyseal/internal/home"
)

const rootHelp = `privyseal signs the blocks of CometBFT validators, and never two conflicting ones.

The first hour:

  privyseal init --chain-id ID --node unix:///run/node/privval.sock
                      make config, key and state; say what the node needs
  privyseal check     is everything as it should be?
  privyseal start     sign, until SIGTERM

While it runs:

  privyseal status    what was signed last, and what each node is doing
  privyseal witness   does the chain know of another signer with our key?

Moving in and out:

  privyseal migrate   take over from CometBFT, tmkms, tmkms-light, cosmos-kms, Horcrux
  privyseal state     init, raise, adopt, show, import, export: what must never be lost
  privyseal key       generate, import, show, seal

In an AWS Nitro Enclave (doc/nitro.md), or with a YubiHSM 2 (doc/yubihsm.md):

  privyseal nitro     build the image, make KMS policies, run, attest
  privyseal yubihsm   setup, detect, list, test, generate, import, attest, export,
                      restore, clone, audit
  privyseal verify    check what proves where a key is, offline, anywhere

Also: version, completion, help. "privyseal help COMMAND" says more.

All commands find config, keys and state in --home DIR or $PRIVYSEAL_HOME.
Exit status: 0 done, 1 failed, 64 wrong usage, 78 wrong config, 79 an operator
must act.
`

// NewRoot returns the program of a build.
func NewRoot(build home.Build) *cobra.Command {
	a := build.House("")
	root := &cobra.Command{
		Use:           "privyseal",
		Short:         "Sign the blocks of CometBFT validators, and never two conflicting ones",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cli.NoCommand,
		RunE:          cli.ShowHelp,
		// No command has a hook of its own, which would take the place of this one.
		PersistentPreRunE: cli.NoEmptyFlags,
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = buildVersion()
	root.SetVersionTemplate(versionLine())
	root.PersistentFlags().StringVar(&a.HomeFlag, "home", "", "folder of config, keys and state (default $PRIVYSEAL_HOME)")
	root.SetFlagErrorFunc(cli.FlagError)
	plainHelp := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd == root {
			io.WriteString(cmd.OutOrStdout(), rootHelp)
			return
		}
		plainHelp(cmd, args)
	})
	root.SetHelpCommand(cli.NewHelp())
	root.AddCommand(
		newInitCommand(a, build),
		newStartCommand(a),
		check.NewCommand(a),
		status.NewCommand(a),
		newWitnessCommand(a),
		newKeyCommand(a, build),
		state.NewCommand(a),
		newMigrateCommand(a, build),
		newVersionCommand(),
	)
	if cmd := verify.NewCommand(build); cmd != nil {
		root.AddCommand(cmd)
	}
	for _, p := range build.Providers {
		if p.Commands != nil {
			root.AddCommand(p.Commands(a)...)
		}
	}
	return root
}

// Complaint returns the text of an error as it is printed to w.
func Complaint(w io.Writer, text string) string { return screen.Complaint(w, text) }
