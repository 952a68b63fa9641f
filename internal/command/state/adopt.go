package state

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/provider"
)

func newAdopt(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var words home.Words
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Accept a state that was copied, restored or moved",
		Long: `Accept a state file that was copied here, restored from a backup, or whose machine
changed its id, or a shared state whose database was restored. With it you confirm that this is the newest state of this key on this
chain, and that no other copy of it signs, here or elsewhere. If that is wrong, the
validator signs twice and is slashed. When in doubt, move the file aside and use
"privyseal state init --after-height H" instead.

A shared state is adopted on each of its hosts, while every signer of the key is
stopped: first on the host that has seen most, as "privyseal state show" prints it.

It shows the mark and its age, and asks you to confirm; without a terminal, --yes
confirms.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			return adopt(a, cmd, c, ch, &words)
		},
	}
	chain.Add(a.App, cmd)
	words.Add(a, cmd)
	return cmd
}

func adopt(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, words *home.Words) error {
	state, _, err := home.StateOf(a, c, ch)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	info, err := home.InspectShared(ctx, state)
	// There is none, and this host knows of one.
	gone := errors.Is(err, provider.ErrRestored) && info.Shared != nil && info.Shared.Own != ""
	if gone {
		info.Problem, err = err, nil
	}
	if err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
	if info.Problem == nil {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing to adopt, the state is in order at %s\n", ch.Name, home.MarkText(a.Providers.Shown(ch, info.Saved.Mark)))
		return err
	}
	mover, moves := state.State.(provider.Mover)
	if !moves || !adoptable(info.Problem) {
		return a.Providers.ExplainState(c, ch, info.Problem)
	}
	if info.Ended { // no word brings it back to life
		return a.Providers.ExplainState(c, ch, mover.Adopt(ctx)) // refuses
	}
	in := home.Incoming{
		Chain: ch.Name, Mark: info.Newest.Mark, Origin: home.FromHere, Written: info.Newest.Time,
		From: state.Where + ", a file that was copied, restored or moved",
	}
	if state.Shared {
		in.From = state.Where + ", a database that was restored or changed"
	}
	if state.Shared && errors.Is(info.Problem, provider.ErrRestored) {
		in.Origin = home.FromRestored
	}
	switch {
	case errors.Is(info.Problem, provider.ErrBeside):
		in.From = state.Where + ", beside another state of this host"
	case gone:
		in.Origin, in.From = home.FromMemory, "this host: there is no mark in "+state.Where
	case info.Saved.Mark.Less(info.Newest.Mark):
		in.From = fmt.Sprintf("this host, which knows a newer mark than %s, which is at %s", state.Where, home.MarkText(a.Providers.Shown(ch, info.Saved.Mark)))
	}
	// A copy of a state that never signed is a fresh state; whoever adopts it says so.
	if err := words.Gate(cmd, ch, true).Admit(in, home.Here{}); err != nil {
		return err
	}
	if err := home.Quarantine(c.Path(ch.State), "the state was adopted"); err != nil {
		return err
	}
	if err := mover.Adopt(ctx); err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
	if info, err = state.Inspect(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: adopted %s, at %s\n", ch.Name, state.Where, home.MarkText(a.Providers.Shown(ch, info.Saved.Mark)))
	return err
}

// adoptable reports whether a state is refused for where its bytes come from only.
func adoptable(problem error) bool {
	return errors.Is(problem, provider.ErrCopied) || errors.Is(problem, provider.ErrRestored) || errors.Is(problem, provider.ErrBeside)
}
