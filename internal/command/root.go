// Package command is the operator's commands, one file each. It knows no provider: what
// one has of a command comes from the table of the build ([home.Build]), so that a line
// there adds one. Nothing here signs.
package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/command/check"
	"privyseal/internal/command/screen"
	"privyseal/internal/command/state"
	"privyseal/internal/command/status"
	"privyseal/internal/command/verify"
	"privyseal/internal/home"
	"privyseal/internal/provider"
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
  privyseal state     what must never be lost: init, raise, adopt, show, import,
                      export, join, move
  privyseal key       generate, import, show, seal

For one provider (its guide is doc/PROVIDER.md):

%s
Also: version, completion, help. "privyseal help COMMAND" says more.

All commands find config, keys and state in --home DIR or $PRIVYSEAL_HOME.
Exit status: 0 done, 1 failed, 64 wrong usage, 78 wrong config, 79 an operator
must act.
`

// NewRoot returns the program of a build.
func NewRoot(build home.Build) *cobra.Command {
	a := build.House("")
	own := commandsOf(a, build)
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
			fmt.Fprintf(cmd.OutOrStdout(), rootHelp, lines(own))
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
	root.AddCommand(own...)
	return root
}

// commandsOf returns the commands that the build's providers bring along, in their order.
func commandsOf(a *provider.House, build home.Build) (own []*cobra.Command) {
	for _, p := range build.Providers {
		if p.Commands != nil {
			own = append(own, p.Commands(a)...)
		}
	}
	if cmd := verify.NewCommand(build); cmd != nil {
		own = append(own, cmd)
	}
	return own
}

// lines returns a line for each command, as the help of the program has them.
func lines(commands []*cobra.Command) string {
	var b strings.Builder
	page := screen.Screen{Width: 80}
	for _, cmd := range commands {
		head := fmt.Sprintf("  privyseal %-10s", cmd.Name())
		page.Put(&b, head, len(head), page.Wrap(len(head), strings.ToLower(cmd.Short[:1])+cmd.Short[1:]))
	}
	return b.String()
}

// Complaint returns the text of an error as it is printed to w.
func Complaint(w io.Writer, text string) string { return screen.Complaint(w, text) }
