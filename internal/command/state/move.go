package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/home"
	"privyseal/internal/movenote"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func newMove(a *provider.House) *cobra.Command {
	var chain cli.ChainFlag
	var words home.Words
	to := targetFlags{picks: map[string]cli.Pick{}, owners: map[string]string{}}
	cmd := &cobra.Command{
		Use:   "move --to STORE",
		Short: "Move the state of a chain to another store",
		Long: `Move the state of a chain from the store that it is in to another one, as from a file
to etcd, where signers of several hosts share it, or back. Stop "privyseal start" first.

The state ends where it is, durably and for every signer, before it is made in the
other store; where signers of other hosts have it there already, this host joins them.
Last, the config is changed to name the new store. Cut off at any point, the command
is typed again and goes on; until then nothing is signed.

It shows the mark and the lines of the config that change, and asks you to confirm;
without a terminal, --yes confirms. A state that was exported to another host is not
moved.`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.Choose(a.App)
			if err == nil {
				err = a.CheckOwner()
			}
			if err == nil {
				err = to.check(cmd, a.Stores)
			}
			if err != nil {
				return err
			}
			held, err := hold(c, ch)
			if err != nil {
				return err
			}
			defer held.Release()
			m := &move{House: a, c: c, ch: ch, to: ch, held: held}
			if m.to.StoreTable, m.added, err = to.pick(c); err != nil {
				return err
			}
			m.to.Store = to.store
			return m.run(cmd, &words)
		},
	}
	chain.Add(a.App, cmd)
	words.Add(a, cmd)
	words.AddExport(cmd)
	to.add(cmd, a.Stores)
	return cmd
}

// hold locks the note of a chain's state.
func hold(c *config.Config, ch config.Chain) (*movenote.Held, error) {
	held, err := movenote.Hold(c.Path(ch.State))
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("another command moves or exports the state of chain %q: %w", ch.Name, err)
	}
	return held, err
}

// movedBy is the command that goes on with the move of a chain's state.
func movedBy(a *provider.House, ch config.Chain, note movenote.Note) string {
	words := ""
	for _, w := range append([]string{"--chain-id", ch.Name}, note.Words()...) {
		words += " " + shell.Word(w)
	}
	return a.Command("state move%s", words)
}

// targetFlags name a store, and a table of it.
type targetFlags struct {
	store  string
	picks  map[string]cli.Pick // by store
	owners map[string]string   // of flags
}

func (f *targetFlags) add(cmd *cobra.Command, stores provider.Stores) {
	cmd.Flags().StringVar(&f.store, "to", "", "where the state is to be: "+stores.Names())
	for _, s := range stores {
		if s.Flags == nil {
			continue
		}
		for _, flag := range cli.Grouped(cmd, "With --to "+s.Name, func() { f.picks[s.Name] = s.Flags(cmd.Flags()) }) {
			f.owners[flag] = s.Name
		}
	}
}

func (f *targetFlags) check(cmd *cobra.Command, stores provider.Stores) (err error) {
	if f.store == "" {
		return cli.Usagef("--to is missing: %s", stores.Names())
	}
	if !stores.Has(f.store) {
		return cli.Usagef("--to %.20q is not in this build, which has %s", f.store, stores.Names())
	}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if owner := f.owners[flag.Name]; owner != "" && owner != f.store && err == nil {
			err = cli.Usagef("--%s goes with --to %s", flag.Name, owner)
		}
	})
	return err
}

func (f *targetFlags) pick(c *config.Config) (name string, added map[string]map[string]config.Section, err error) {
	if pick := f.picks[f.store]; pick != nil {
		return pick(c)
	}
	return "", nil, nil
}

// move is the state of a chain on its way to another store of this host.
type move struct {
	*provider.House
	c     *config.Config
	ch    config.Chain                         // as it is
	to    config.Chain                         // as it is to be
	added map[string]map[string]config.Section // tables that the config lacks
	held  *movenote.Held
	note  movenote.Note

	id             watermark.ID
	source, target provider.Kept
	saved          watermark.Saved // what the source holds
	pin            string          // what the config lacks of the target
	there          there
}

// there is what is at the target.
type there struct {
	missing, unjoined, ended bool
	mark                     watermark.Mark
}

// run is the move. Each step can be repeated: where it is cut off, the note says that the
// source, which may have ended by then, goes to this target and to nobody else.
func (m *move) run(cmd *cobra.Command, words *home.Words) error {
	ctx := cmd.Context()
	if err := m.find(); err != nil {
		return err
	}
	if m.ch.Store == m.to.Store && m.ch.StoreTable == m.to.StoreTable {
		return m.done(cmd.OutOrStdout())
	}
	if m.source.Shared && m.target.Shared {
		return m.roundabout()
	}
	for _, look := range []func(context.Context) error{m.lookAtSource, m.prepare, m.lookAtTarget} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	edit, err := m.Kinds.SetStore(m.configPath(), m.added, m.to)
	if err != nil {
		return cli.BadConfig(err)
	}
	if err := m.admit(cmd, words, edit.Lines); err != nil {
		return err
	}
	// From here on the words that repeat the move are short: the table is in the config.
	if err := m.addTables(); err != nil {
		return err
	}
	if edit, err = m.Kinds.SetStore(m.configPath(), nil, m.to); err != nil {
		return cli.BadConfig(err)
	}
	if err := m.held.Write(m.note); err != nil {
		return err
	}
	if err := m.end(ctx); err != nil {
		return m.Providers.ExplainState(m.c, m.ch, err)
	}
	if err := m.unchanged(ctx); err != nil {
		return m.goOn(err)
	}
	if err := m.bring(ctx); err != nil {
		return m.goOn(err)
	}
	if err := edit.Write(); err != nil {
		return m.goOn(err)
	}
	notePin(m.House, cmd, m.to, m.pin)
	return m.done(cmd.OutOrStdout())
}

// roundabout refuses a move from one database straight to another, which would be two that have
// ended or none where it is cut off. Of one kind, what this host keeps of the first, beside the
// state, would be compared with the second as well.
func (m *move) roundabout() error {
	return cure.Add(cli.Actf("the state of chain %q does not go from one database straight to another: what this host has seen of the first is no measure of the second", m.ch.Name),
		"go by a file: %s, then %sthis move again", m.Command("state move --chain-id %s --to %s", shell.Word(m.ch.Name), m.Stores[0].Name), m.asideOfBoth())
}

// asideOfBoth puts aside what this host keeps of the source where it would keep the same of the
// target. Databases of two kinds have each their own.
func (m *move) asideOfBoth() string {
	if m.source.Files[0] != m.target.Files[0] {
		return ""
	}
	return aside(m.source) + ", then "
}

// aside is the command that puts aside what this host keeps of a shared state.
func aside(of provider.Kept) string {
	return fmt.Sprintf("`mv %s %s`", shell.Word(of.Files[0]), shell.Word(of.Files[0]+".old"))
}

// forget is how this host comes to a shared state as one that knows nothing of another one: by
// the file, and where that is put aside already, by what it remembers since it was booted.
func forget(of provider.Kept) string {
	if _, err := os.Lstat(of.Files[0]); err != nil {
		return "reboot it"
	}
	return aside(of)
}

func (m *move) configPath() string { return filepath.Join(m.c.Path("."), config.FileName) }

// goOn says how a move that has begun is finished.
func (m *move) goOn(err error) error {
	return cure.Add(cli.Actf("the state of chain %q has ended in %s, and is not in use in %s yet: %w", m.ch.Name, m.source.Where, m.target.Where, err),
		"go on with %s", movedBy(m.House, m.ch, m.note))
}

// find finds source and target.
func (m *move) find() (err error) {
	if e, _ := m.Providers.Of(m.ch); e.Holder != nil {
		_, reaches := e.Holder.(provider.Reacher)
		if _, keeps := m.Providers.Keeper(m.ch); keeps && !reaches {
			return cli.Actf("the state of chain %q is made by %s, and does not move by this command", m.ch.Name, e.Writer)
		}
	}
	public, err := m.Providers.Public(m.c, m.ch)
	if err != nil {
		return err
	}
	m.id = watermark.ID{ChainID: m.ch.ID, Key: public.ID()}
	if m.source, err = m.Stores.State(m.c, m.ch, m.id); err != nil {
		return err
	}
	tables := map[string]map[string]config.Section{}
	home.AddTables(tables, m.c.Tables)
	home.AddTables(tables, m.added)
	if m.target, err = m.Stores.StateIn(tables, m.c.Path, m.to, m.id); err == nil {
		err = m.Providers.Unreached(m.to, m.target)
	}
	if err != nil {
		return err
	}
	m.note = movenote.Of(m.id, m.to.Store, m.Stores.Table(m.to.Store), m.to.StoreTable)
	return nil
}

// lookAtSource refuses a state that is not in order, or that has ended and is not on its way
// to this target.
func (m *move) lookAtSource(ctx context.Context) error {
	info, err := home.InspectShared(ctx, m.source)
	if err == nil {
		err = info.Problem
	}
	note, moving := m.held.Note()
	if !moving { // it was done, and the config was changed back since
		note, moving = movenote.Moved(m.c.Path(m.ch.State))
		moving = moving && note.Leads(m.ch.Store, m.ch.StoreTable)
	}
	if moving && errors.Is(err, provider.ErrExported) {
		if note != m.note {
			return m.elsewhere(note)
		}
		err = nil
	}
	if err != nil {
		return m.Providers.ExplainState(m.c, m.ch, err)
	}
	if _, moves := m.source.State.(provider.Mover); !moves {
		return cli.Actf("the store of chain %q cannot end a state", m.ch.Name)
	}
	m.saved = info.Saved
	return nil
}

// elsewhere refuses what would tear a move apart that has begun.
func (m *move) elsewhere(note movenote.Note) error {
	return cure.Add(cli.Actf("the state of chain %q is on its way to another store, and was cut off", m.ch.Name),
		"go on with %s", movedBy(m.House, m.ch, note))
}

// lookAtTarget refuses a target that cannot take the state, before anything has ended.
func (m *move) lookAtTarget(ctx context.Context) error {
	info, err := home.InspectShared(ctx, m.target)
	if err == nil {
		err = info.Problem
	}
	m.there.mark = info.Saved.Mark
	switch {
	case err == nil, errors.Is(err, provider.ErrBeside) && !m.saved.Mark.Less(info.Newest.Mark): // this one beside it
	case errors.Is(err, provider.ErrMissing):
		m.there.missing = true
	case errors.Is(err, provider.ErrUnjoined):
		m.there.unjoined = true
	case errors.Is(err, provider.ErrExported):
		m.there.ended = true
	case errors.Is(err, provider.ErrSplit):
		_, next := cure.Split(err.Error())
		return cure.Add(m.refused(err), "%s", next)
	case m.target.Shared && (errors.Is(err, provider.ErrRestored) || errors.Is(err, provider.ErrPlace)):
		return cure.Add(m.refused(err), "if this host has had the state in another database before: %s, and then this move again", forget(m.target))
	default:
		return m.refused(err)
	}
	if m.there.ended && m.saved.Mark.Less(m.there.mark) {
		return cli.Actf("the state of chain %q cannot go there: %s ended at %s, above this one, which is at %s", m.ch.Name, m.target.Where, home.MarkText(m.there.mark), home.MarkText(m.saved.Mark))
	}
	return nil
}

// prepare refuses a target in which no signer of this host could write, while the source is
// alive. What is learned of it goes into the config with a table that is added.
func (m *move) prepare(ctx context.Context) error {
	pin, err := home.Prepare(ctx, m.target)
	if err != nil {
		return m.refused(err)
	}
	if len(m.added) == 0 {
		m.pin = pin
	}
	return nil
}

// refused says that the target cannot take the state.
func (m *move) refused(err error) error {
	if e, ok := errors.AsType[*provider.StateError](err); ok {
		err = e.Err // its next step is for a chain that is there
	}
	return cli.Actf("the state of chain %q cannot go there: %w", m.ch.Name, err)
}

// admit takes the mark through the gate.
func (m *move) admit(cmd *cobra.Command, words *home.Words, lines []string) error {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "%s: to %s, and in %s\n", m.ch.Name, m.target.Where, m.configPath())
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", line)
	}
	in := home.Incoming{Chain: m.ch.Name, Mark: m.saved.Mark, Origin: home.FromHere, Written: m.saved.Time, From: m.source.Where + ", which ends for every signer"}
	if m.there.unjoined {
		in.Origin = home.FromShared
	}
	here := home.Here{Exported: m.there.mark, HasTombstone: m.there.ended}
	return words.Gate(cmd, m.ch, true).Admit(in, here)
}

// end ends the source. Where another host has ended it meanwhile, it went there, and there is
// no move of ours to go on with.
func (m *move) end(ctx context.Context) (err error) {
	m.saved, err = m.source.State.(provider.Mover).Export(ctx)
	if errors.Is(err, provider.ErrExported) {
		return errors.Join(m.held.Remove(), err)
	}
	return err
}

func (m *move) addTables() error {
	if len(m.added) == 0 {
		return nil
	}
	return m.Kinds.Append(m.configPath(), m.added)
}

// unchanged refuses a target that has ended since the operator was asked: another host has
// moved it, and raising it would bring it back to life.
func (m *move) unchanged(ctx context.Context) error {
	before := m.there
	m.there = there{}
	if err := m.lookAtTarget(ctx); err != nil {
		return err
	}
	if m.there.ended && !before.ended {
		return fmt.Errorf("it has ended meanwhile, at %s", home.MarkText(m.there.mark))
	}
	return nil
}

// bring makes the state at the target, or raises the one that is there. It may have been
// brought by an earlier try, and have signed since.
func (m *move) bring(ctx context.Context) error {
	if m.there.missing {
		return m.target.Create(ctx, m.saved)
	}
	if m.there.unjoined {
		if err := m.target.State.(provider.Joiner).Join(ctx); err != nil {
			return err
		}
	}
	err := m.target.Raise(ctx, m.saved)
	if errors.Is(err, provider.ErrBelow) && !m.there.ended {
		return nil
	}
	return err
}

// done ends the move, of which nothing is left but the note.
func (m *move) done(w io.Writer) error {
	if note, moving := m.held.Note(); !moving || note != m.note {
		return cli.Usagef("the state of chain %q is in %s already", m.ch.Name, m.target.Where)
	}
	if err := m.held.Done(m.note); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: moved to %s\nnext: %s, then %s\n", m.ch.Name, m.target.Where, m.Command("check"), m.Command("start"))
	return err
}
