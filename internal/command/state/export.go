package state

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/movenote"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
)

func newExport(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var out string
	cmd := &cobra.Command{
		Use:   "export [--out FILE]",
		Short: "End the state here, and print it for another host",
		Long: `End the state of a chain on this host, and print it for "privyseal state import" on
another one. Before anything is printed, it is made durable that nothing is signed
here again until a state at or above this one is imported. Stop "privyseal start"
first. If the output is lost, export again: it stays the same.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			state, key, err := home.StateOf(a, c, ch)
			if err != nil {
				return err
			}
			held, err := hold(c, ch)
			if err != nil {
				return err
			}
			defer held.Release()
			export := func() ([]byte, error) {
				if err := unmoved(cmd.Context(), a, c, ch, state, held); err != nil {
					return nil, err
				}
				return exported(cmd.Context(), c.Path(ch.State), ch.ID, state, key)
			}
			if out == "" {
				data, err := export()
				if err != nil {
					return a.Providers.ExplainState(c, ch, err)
				}
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			err = cli.WriteNewFrom(out, 0o600, export)
			if at, ok := err.(*fs.PathError); ok { // of the file, and not of the state
				err = fmt.Errorf("cannot export: %w", at)
			}
			if err != nil {
				return a.Providers.ExplainState(c, ch, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: nothing is signed here any more; on the new host type `privyseal state import --chain-id %s %s`\n", ch.Name, shell.Word(ch.Name), shell.File(out))
			return nil
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to make; nothing is overwritten")
	return cmd
}

// unmoved refuses to hand a state to another host that has ended on its way to another store
// of this one, or has gone there. A move that was cut off before that is off.
func unmoved(ctx context.Context, a *provider.House, c *config.Config, ch config.Chain, state provider.Kept, held *movenote.Held) error {
	note, moving := held.Note()
	if !moving {
		note, moving = movenote.Moved(c.Path(ch.State))
		moving = moving && note.Leads(ch.Store, ch.StoreTable)
	}
	if !moving {
		return nil
	}
	info, err := state.Inspect(ctx)
	switch {
	case err != nil:
		return err
	case info.Exported:
		return cure.Add(cli.Actf("the state of chain %q has ended on its way to another store of this host", ch.Name), "go on with %s", movedBy(a, ch, note))
	}
	return held.Remove()
}

// exported ends the state and returns it.
func exported(ctx context.Context, path, chainID string, state provider.Kept, key pubkey.Key) ([]byte, error) {
	info, err := state.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	mover, moves := state.State.(provider.Mover)
	if !moves {
		return nil, cli.Actf("the store of chain %q cannot export its state", chainID)
	}
	saved, err := mover.Export(ctx)
	if err != nil {
		return nil, err
	}
	return home.EncodeInterchange(chainID, key, saved, time.Now(), home.ExporterOf(path, info))
}
