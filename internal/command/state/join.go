package state

import (
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

func newJoin(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var words home.Words
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Share a state that signers of other hosts have",
		Long: `Have this host share the state of a chain that a signer of another host has made, as
in etcd. From then on both sign, each for its own nodes, and whatever one of them has
signed binds the other one too.

It takes the database for the truth. It shows the mark, and asks you to confirm that the
key has signed nothing newer, that every signer of it shares this state, and that no
host reports a restored or replaced database: that one is adopted first, on the host
that has seen most ("privyseal state adopt"), or what was signed since the backup is
signed again; without a terminal, --yes confirms. What this host has seen of the state
is kept in a file beside the path that the chain has as its state, and nothing older is
ever accepted here.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err == nil {
				err = a.CheckOwner()
			}
			if err != nil {
				return err
			}
			state, _, err := home.StateOf(a, c, ch)
			if err != nil {
				return err
			}
			pin, err := home.Prepare(cmd.Context(), state)
			if err != nil {
				return a.Providers.ExplainState(c, ch, err)
			}
			saved, err := home.AdmitShared(cmd, &words, ch, state)
			if err == nil {
				err = home.JoinState(cmd.Context(), state)
			}
			if err != nil {
				return a.Providers.ExplainState(c, ch, err)
			}
			notePin(a, cmd, ch, pin)
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: shares %s, at %s\n", ch.Name, state.Where, home.MarkText(a.Providers.Shown(ch, saved.Mark)))
			return err
		},
	}
	chain.Add(a.App, cmd)
	words.Add(a, cmd)
	return cmd
}

// notePin says what the config lacks of a database that was pinned.
func notePin(a *provider.House, cmd *cobra.Command, ch config.Chain, pin string) {
	if pin != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), home.PinNote(a.Stores.Table(ch.Store), ch, pin, false))
	}
}
