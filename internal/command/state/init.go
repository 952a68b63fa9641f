package state

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

func newInit(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var from home.Start
	cmd := &cobra.Command{
		Use:   "init (--fresh-state [--initial-height H] | --after-height H)",
		Short: "Make a state that is missing",
		Long: `Make the state of a chain where there is none.

With --fresh-state you confirm that the key has never signed for this chain id. If
that is wrong, the validator signs twice and is slashed. A key that joins a chain
which is above height 100,000 needs --initial-height as well: the height that the
chain has now, or a little less.

--after-height H is the way back after a lost host: nothing at or below H is ever
signed. Choose a height well above everything that the chain has reached, minutes
ahead. For a chain that has stopped because it waits for this key, see
"privyseal state raise --help".`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			if from.Count() != 1 {
				return cli.Usagef("add --fresh-state if the key has never signed for chain %q, or else --after-height H; see `privyseal state init --help`", ch.Name)
			}
			if err := from.Check(); err != nil {
				return err
			}
			if maker, ok := makerOf(a, ch); ok {
				return maker.NewState(cmd, a, c, ch, &from)
			}
			return create(a, cmd, c, ch, &from)
		},
	}
	chain.Add(a.App, cmd)
	from.Add(a, cmd)
	from.AddInitial(cmd)
	return cmd
}

func makerOf(a *provider.House, ch config.Chain) (home.StateMaker, bool) {
	e, _ := a.Providers.Of(ch)
	maker, ok := e.Holder.(home.StateMaker)
	return maker, ok
}

// create makes the state of a key that this process signs with.
func create(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, from *home.Start) error {
	state, key, err := home.StateOf(a, c, ch)
	if err == nil {
		err = a.CheckOwner()
	}
	if err != nil {
		return err
	}
	path := c.Path(ch.State)
	if err := absent(cmd.Context(), state); err != nil {
		return err
	}
	saved, err := from.Admit(cmd, ch, key, path, ch.ImportedFrom...)
	if err != nil {
		return err
	}
	pin, err := home.Prepare(cmd.Context(), state)
	if err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
	if err := home.Quarantine(path, "the state was made by state init"); err != nil {
		return err
	}
	if err := state.Create(cmd.Context(), saved); err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
	notePin(a, cmd, ch, pin)
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: made %s, at %s\n", ch.Name, state.Where, home.MarkText(saved.Mark))
	return err
}

// absent returns an ErrExists if there is a state, so that nobody is asked for a word
// that leads nowhere.
func absent(ctx context.Context, state provider.State) error {
	if _, err := state.Inspect(ctx); errors.Is(err, provider.ErrMissing) {
		return nil
	} else if err != nil {
		return err
	}
	// It refuses. Should the state go meanwhile, there is one that signs nothing.
	return state.Create(ctx, watermark.Saved{Mark: watermark.Floor(math.MaxInt64)})
}
