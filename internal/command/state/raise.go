package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func newRaise(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var from home.Start
	cmd := &cobra.Command{
		Use:   "raise --after-height H",
		Short: "Sign nothing at or below a height",
		Long: `Raise the state of a chain, so that nothing at or below H is ever signed. It never
lowers a state, and "privyseal start" must not be running. It is for

  - a fresh state whose chain is far above height 100,000 already: H is the height
    that the chain has now, or a little less;
  - a state that an operator does not trust: H is well above everything that the
    chain has reached;
  - a chain that has stopped at height N because it waits for this key, which
    refuses all of N after a restart (height_gap): H is N - 1. The condition: this
    key, in any copy, has signed nothing at N. If it has, or may have, only the
    other validators can bring the chain beyond N.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err == nil && from.After == 0 {
				err = cli.Usagef("--after-height H is missing: the height at and below which nothing is ever signed")
			}
			if err == nil {
				err = a.CheckOwner()
			}
			if err != nil {
				return err
			}
			if maker, ok := makerOf(a, ch); ok {
				return maker.RaiseState(ch)
			}
			return raise(a, cmd, c, ch, &from)
		},
	}
	chain.Add(a.App, cmd)
	cli.AddHeight(cmd, &from.After, "after-height", "sign nothing at or below this height")
	from.Words.Add(a, cmd)
	return cmd
}

func raise(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, from *home.Start) error {
	state, key, err := home.StateOf(a, c, ch)
	if err != nil {
		return err
	}
	in, _, err := from.Incoming(ch.Name, ch.ID, key)
	if err != nil {
		return err
	}
	in.From = fmt.Sprintf("your --after-height %d", from.After)
	return bringIn(a, cmd, c, ch, state, &from.Words, in, home.Exporter{}, false)
}

// bringIn raises the state to a mark that the gate lets in. Where there is no state,
// it makes one if that is allowed.
func bringIn(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, state provider.Kept, words *home.Words, in home.Incoming, by home.Exporter, makes bool) error {
	ctx, path := cmd.Context(), c.Path(ch.State)
	release, err := unmoving(ctx, a, c, ch, state)
	if err != nil {
		return err
	}
	defer release()
	info, err := state.Inspect(ctx)
	missing := errors.Is(err, provider.ErrMissing)
	if err != nil && !(missing && makes) {
		return a.Providers.ExplainState(c, ch, err)
	}
	saved := watermark.Saved{Mark: in.Mark, Time: in.Written}
	here := home.Here{}
	switch {
	case missing:
	case errors.Is(info.Problem, provider.ErrExported):
		here.Exported, here.HasTombstone = info.Saved.Mark, true
	case info.Problem != nil:
		return a.Providers.ExplainState(c, ch, info.Problem)
	case saved.Mark.Less(info.Saved.Mark):
		return a.Providers.ExplainState(c, ch, state.Raise(ctx, saved)) // refuses
	}
	in.Own = by.Same(home.ExporterOf(path, info))
	g := words.Gate(cmd, ch, in.Origin == home.FromNothing)
	if _, ok := makerOf(a, ch); !ok { // else no word of this host makes or raises it
		make := map[bool]string{true: "init", false: "raise"}[missing]
		g.AtHeight = func() string { return a.Line("state %s --chain-id %s --after-height H", make, shell.Word(ch.Name)) }
	}
	if err := g.Admit(in, here); err != nil {
		return err
	}
	if err := home.Quarantine(path, in.From); err != nil {
		return err
	}
	if missing {
		err = state.Create(ctx, saved)
	} else {
		err = state.Raise(ctx, saved)
	}
	if err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
	if info, err = state.Inspect(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is at %s\n", ch.Name, state.Where, home.MarkText(a.Providers.Shown(ch, info.Saved.Mark)))
	return err
}

// unmoving keeps a state from being moved, and refuses one that has ended on its way to another
// store: brought back to life here, it would sign beside the one that may be live there.
func unmoving(ctx context.Context, a *provider.House, c *config.Config, ch config.Chain, state provider.Kept) (release func(), err error) {
	held, err := hold(c, ch)
	if errors.Is(err, fs.ErrNotExist) { // the folder: there is no state, and no note
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	note, moving := held.Note()
	if !moving {
		return held.Release, nil
	}
	info, err := home.InspectShared(ctx, state)
	if err == nil && info.Exported {
		err = cure.Add(cli.Actf("the state of chain %q has ended on its way to another store, and the move was cut off", ch.Name), "go on with %s", movedBy(a, ch, note))
	}
	if err != nil && !errors.Is(err, provider.ErrMissing) {
		held.Release()
		return nil, a.Providers.ExplainState(c, ch, err)
	}
	return held.Release, nil
}
