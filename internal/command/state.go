package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/privval"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func newStateCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("state", "Make, show and move the state that keeps a key from signing twice",
		newStateInitCommand(a), newStateRaiseCommand(a), newStateAdoptCommand(a), newStateShowCommand(a), newStateImportCommand(a), newStateExportCommand(a))
}

func newStateInitCommand(a *provider.House) *cobra.Command {
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
			if maker, ok := stateMakerOf(a, ch); ok {
				return maker.NewState(cmd, a, c, ch, &from)
			}
			return initState(a, cmd, c, ch, &from)
		},
	}
	chain.Add(a.App, cmd)
	from.Add(a, cmd)
	from.AddInitial(cmd)
	return cmd
}

func stateMakerOf(a *provider.House, ch config.Chain) (home.StateMaker, bool) {
	e, _ := a.Providers.Of(ch)
	maker, ok := e.Holder.(home.StateMaker)
	return maker, ok
}

// initState makes the state of a key that this process signs with.
func initState(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, from *home.Start) error {
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
	if err := home.Quarantine(path, "the state was made by state init"); err != nil {
		return err
	}
	if err := state.Create(cmd.Context(), saved); err != nil {
		return a.Providers.ExplainState(c, ch, err)
	}
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

func newStateRaiseCommand(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	from := home.Start{After: home.NotAfter}
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
			if err == nil && from.After == home.NotAfter {
				err = cli.Usagef("--after-height H is missing: the height at and below which nothing is ever signed")
			}
			if err == nil {
				err = from.Check()
			}
			if err == nil {
				err = a.CheckOwner()
			}
			if err != nil {
				return err
			}
			if maker, ok := stateMakerOf(a, ch); ok {
				return maker.RaiseState(ch)
			}
			return raiseState(a, cmd, c, ch, &from)
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().Int64Var(&from.After, "after-height", home.NotAfter, "sign nothing at or below this height")
	from.Words.Add(a, cmd)
	return cmd
}

func raiseState(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, from *home.Start) error {
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
	if _, ok := stateMakerOf(a, ch); !ok { // else no word of this host makes or raises it
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

func newStateAdoptCommand(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var words home.Words
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Accept a state that was copied, restored or moved",
		Long: `Accept a state file that was copied here, restored from a backup, or whose machine
changed its id. With it you confirm that this is the newest state of this key on this
chain, and that no other copy of it signs, here or elsewhere. If that is wrong, the
validator signs twice and is slashed. When in doubt, move the file aside and use
"privyseal state init --after-height H" instead.

It shows the mark and its age, and asks you to confirm; without a terminal, --yes
confirms.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			return adoptState(a, cmd, c, ch, &words)
		},
	}
	chain.Add(a.App, cmd)
	words.Add(a, cmd)
	return cmd
}

func adoptState(a *provider.House, cmd *cobra.Command, c *config.Config, ch config.Chain, words *home.Words) error {
	state, _, err := home.StateOf(a, c, ch)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	info, err := state.Inspect(ctx)
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
	if info.Saved.Mark.Less(info.Newest.Mark) {
		in.From = fmt.Sprintf("this host, which knows of more than %s: that is at %s", state.Where, home.MarkText(a.Providers.Shown(ch, info.Saved.Mark)))
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
	return errors.Is(problem, provider.ErrCopied) || errors.Is(problem, provider.ErrRestored)
}

func newStateShowCommand(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the last mark, and whether its file is in order",
		Long: `Show the last mark of a chain, and whether its file is in order. It only reads,
even while "privyseal start" runs. The exit status is 79 if start would refuse the
file.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err != nil {
				return err
			}
			// A state can be looked at without its key, too.
			state, _, keyErr := home.StateOf(a, c, ch)
			if keyErr != nil {
				if state, err = a.Stores.State(c, ch, watermark.ID{}); err != nil {
					return err
				}
			}
			info, err := state.Inspect(cmd.Context())
			if err != nil {
				return a.Providers.ExplainState(c, ch, err)
			}
			info.Problem = a.Providers.ExplainState(c, ch, info.Problem)
			info.Saved.Mark = a.Providers.Shown(ch, info.Saved.Mark)
			if err := showState(cmd.OutOrStdout(), state.Where, info, asJSON); err != nil {
				return err
			}
			if info.Problem != nil {
				return info.Problem
			}
			return keyErr
		},
	}
	chain.Add(a.App, cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shownState is what `state show --json` prints. Its keys never change.
type shownState struct {
	ChainID    string     `json:"chain_id"`
	KeyID      []byte     `json:"key_id"` // base64 of watermark.ID.Key
	Height     int64      `json:"height"`
	Round      int32      `json:"round"`
	Step       string     `json:"step"`
	Block      string     `json:"block,omitempty"` // upper-case hex, nil, or absent if not known
	SignBytes  []byte     `json:"sign_bytes"`
	WrittenAt  *time.Time `json:"written_at,omitempty"`
	File       string     `json:"file"`
	Mode       string     `json:"mode"`
	Filesystem string     `json:"filesystem,omitempty"`
	Bound      bool       `json:"bound"`
	Exported   bool       `json:"exported"`
	Torn       bool       `json:"torn"`
	Problem    string     `json:"problem,omitempty"`
}

func showState(w io.Writer, path string, info provider.Info, asJSON bool) error {
	m := info.Saved.Mark
	s := shownState{
		ChainID: info.ID.ChainID, KeyID: info.ID.Key[:],
		Height: m.Height, Round: m.Round, Step: m.Step.String(), Block: blockText(m), SignBytes: m.SignBytes,
		File: path, Mode: fmt.Sprintf("%#o", info.Mode.Perm()), Filesystem: info.Filesystem,
		Bound: info.Bound, Exported: info.Exported, Torn: info.Torn,
	}
	if info.ID.ChainID != "" {
		s.WrittenAt = &info.Saved.Time
	}
	if info.Problem != nil {
		s.Problem = info.Problem.Error()
	}
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if text := fileText(info, "on "); text != "" {
		fmt.Fprintf(t, "file\t%s\n\t%s\n", path, text)
	} else {
		fmt.Fprintf(t, "state\t%s\n", path)
	}
	if s.WrittenAt != nil {
		fmt.Fprintf(t, "chain\t%s\n", s.ChainID)
		fmt.Fprintf(t, "mark\t%s\n", home.MarkText(m))
		if s.Block != "" {
			fmt.Fprintf(t, "block\t%s\n", s.Block)
		}
		fmt.Fprintf(t, "written\t%s\n", s.WrittenAt.Format(time.RFC3339))
	}
	switch {
	case info.Problem != nil:
		fmt.Fprintf(t, "condition\trefused\n")
	case s.Torn:
		fmt.Fprintf(t, "condition\tin order; one copy of a record has a bad checksum, its twin is used\n")
	default:
		fmt.Fprintf(t, "condition\tin order\n")
	}
	return t.Flush()
}

// fileText is what a file system says of a state that it has.
func fileText(info provider.Info, on string) string {
	if info.Mode == 0 {
		return ""
	}
	return fmt.Sprintf("mode %#o%s", info.Mode.Perm(), cli.Prefixed(", "+on, info.Filesystem))
}

// blockText returns which block a mark is for: its hash, nil, or "" if that is
// not recorded.
func blockText(m watermark.Mark) string {
	if len(m.SignBytes) == 0 {
		return ""
	}
	req, err := privval.ParseSignBytes(m.SignBytes)
	switch {
	case err != nil:
		return ""
	case req.BlockID.IsNil():
		return "nil"
	}
	return fmt.Sprintf("%X", req.BlockID.Hash)
}

func newStateExportCommand(a *provider.House) *cobra.Command {
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
			export := func() ([]byte, error) { return exportState(cmd.Context(), c.Path(ch.State), ch.ID, state, key) }
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

// exportState ends the state and returns it.
func exportState(ctx context.Context, path, chainID string, state provider.Kept, key pubkey.Key) ([]byte, error) {
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

func newStateImportCommand(a *provider.House) *cobra.Command {
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
