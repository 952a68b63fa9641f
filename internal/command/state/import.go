package state

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

func newImport(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var words home.Words
	var fresh bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Raise the state to one from another host",
		Long: `Raise the state of a chain to one from another host, or make it where there is
none. It reads what "privyseal state export" wrote, CometBFT's
priv_validator_state.json, the states of tmkms, tmkms-light and Horcrux, and the
old priv_validator.json. It never lowers a state.

It shows the mark, where it comes from and how old it is, and asks you to confirm
that the key has signed nothing newer and that no other signer of it runs; without a
terminal, --yes confirms. Only "privyseal state export" makes sure by itself that the
other host stops signing. An export of this very host, and one that is not above what
was exported here, is accepted with --export-unused only.`,
		Args: cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ch, err := chain.Choose(a.App)
			if err == nil {
				err = a.CheckOwner()
			}
			if err != nil {
				return err
			}
			state, key, err := home.StateOf(a, c, ch)
			if err != nil {
				return err
			}
			brought, err := home.ReadState(args[0], ch.ID, key)
			if err == nil {
				err = a.Providers.Accepts(ch, brought.Mark)
			}
			if err != nil {
				return err
			}
			in := home.Incoming{Chain: ch.Name, Mark: brought.Mark, Origin: home.FromFile, Written: brought.Time, From: args[0] + ", " + brought.From}
			if fresh && brought.Mark.IsZero() {
				in.Origin = home.FromNothing
			}
			return bringIn(a, cmd, c, ch, state, &words, in, brought.By, true)
		},
	}
	chain.Add(a.App, cmd)
	words.Add(a, cmd)
	words.AddExport(cmd)
	cmd.Flags().BoolVar(&fresh, "fresh-state", false, "confirm that the key has never signed for this chain id, as FILE says")
	return cmd
}
