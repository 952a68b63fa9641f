package home

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// Maker is what a provider has of `privyseal init`.
type Maker interface {
	// Add adds the flags that are the provider's own.
	Add(cmd *cobra.Command)
	// Check finds what is wrong with the command line alone.
	Check(o *Order) error
	// Make makes a chain.
	Make(cmd *cobra.Command, a *provider.House, o *Order) error
}

// Plain is the [Maker] of a provider without flags of its own. It makes the key of a
// chain, or reads the one to import: [Order.Install] says where it goes.
type Plain func(o *Order, in *Installer, ch *Chain) error

// Add implements [Maker].
func (Plain) Add(*cobra.Command) {}

// Check implements [Maker].
func (Plain) Check(o *Order) error { return o.CheckState() }

// Make implements [Maker].
func (key Plain) Make(cmd *cobra.Command, a *provider.House, o *Order) error {
	return o.Install(cmd, a, func(in *Installer, ch *Chain) error { return key(o, in, ch) })
}

// Order is what `privyseal init` was asked for, whoever holds the key.
type Order struct {
	Provider  string
	Store     string   // "" is the first one of the build
	Pick      cli.Pick // of its table, nil: it has none
	ChainID   string
	Name      string
	Nodes     []config.Node
	Witness   []string
	ImportKey string
	// Taken says that the key is one that was there before, though no file of it is
	// imported: it may have signed.
	Taken bool
	// Join says that signers of other hosts have the state already, in the store of the chain.
	Join    bool
	From    Start
	KeyType pubkey.Type // "" is not given
	Form    keytext.Form
}

// CheckState finds what is wrong with what is said of the state of a key that this
// process signs with.
func (o *Order) CheckState() error {
	given := o.From.Count()
	if o.Join {
		given++
	}
	switch {
	case !o.old() && o.Join:
		return cli.Usagef("--join-state goes with the key that the other signers have: nobody has the state of a new one")
	case !o.old() && (o.From.File != "" || o.From.After != 0):
		return cli.Usagef("--import-state and --after-height go with --import-key: a new key has signed nothing")
	case !o.old():
		o.From.Fresh = true
	case given == 0:
		which := "an imported key"
		if o.Taken {
			which = "a key that is taken"
		}
		return cli.Usagef("%s may have signed before; add --import-state FILE with its state, --after-height H to sign nothing at or below a height, --fresh-state if it has never signed for %s, or --join-state if the signers of other hosts share its state", which, o.ChainID)
	case given > 1:
		return cli.Usagef("give only one of --import-state, --fresh-state, --after-height and --join-state")
	}
	return o.From.Check()
}

// old reports whether the key may have signed before.
func (o *Order) old() bool { return o.ImportKey != "" || o.Taken }

// Install makes a chain whose key this process signs with. key makes the key, or takes it
// in: as SoftKey, or as Public with what the provider keeps in Files; what is to be done
// elsewhere for it waits for Make. A key that came from --import-key has ImportedFrom.
func (o *Order) Install(cmd *cobra.Command, a *provider.House, key func(in *Installer, ch *Chain) error) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	ch := &Chain{Chain: config.NewChain(o.ChainID, o.Name)}
	defer ch.Wipe()
	ch.Provider, ch.Nodes, ch.Witness = o.Provider, o.Nodes, o.Witness
	e, err := a.Providers.Of(ch.Chain)
	if err != nil {
		return err
	}
	in, err := NewInstaller(a)
	if err != nil {
		return err
	}
	if err := in.CheckFree(ch.Chain); err != nil {
		return err
	}
	ch.Store = o.Store
	if o.Pick != nil {
		if ch.StoreTable, ch.StoreTables, err = o.Pick(in.Config); err != nil {
			return err
		}
	}
	if err := key(in, ch); err != nil {
		return err
	}
	if err := o.fits(e, ch); err != nil {
		return err
	}
	if made := ch.Make; made != nil {
		ch.Make = func() error {
			if err := made(); err != nil {
				return err
			}
			return o.fits(e, ch)
		}
	}
	if ch.Saved, err = o.begin(cmd, in, ch); err != nil {
		return err
	}
	if err := in.Install(ch); err != nil {
		return err
	}
	if err := ch.Report(stdout, o.Form); err != nil {
		return err
	}
	if o.ImportKey != "" {
		cli.WarnPlaintext(stderr, o.ImportKey)
	}
	NoteWitness(stderr, o.Witness)
	in.Next(stderr)
	return nil
}

// fits refuses a key that is not the one that was asked for, as by a provider that
// imports none, or makes one type only, and does not say so. What is made at last is not
// known yet.
func (o *Order) fits(e provider.Entry, ch *Chain) error {
	if o.ImportKey != "" && len(ch.ImportedFrom) == 0 {
		return cli.Usagef("--import-key: provider %s imports no keys", e.Name)
	}
	public := ch.PublicKey()
	if public.IsZero() {
		return nil
	}
	if o.KeyType != "" && o.KeyType != public.Type() {
		return cli.Usagef("--key-type %s: provider %s makes %s keys", o.KeyType, e.Name, public.Type())
	}
	if err := e.Has(public.Type()); err != nil {
		return err
	}
	if _, err := o.Form.Text(public); err != nil {
		return cli.Usage(err)
	}
	return nil
}

// begin returns the state to begin with: a new key has signed nothing, and any other
// comes through the gate.
func (o *Order) begin(cmd *cobra.Command, in *Installer, ch *Chain) (watermark.Saved, error) {
	if !o.old() {
		return watermark.Saved{Mark: o.From.mark()}, nil
	}
	ch.Foreign = true
	if o.Join {
		return o.join(cmd, in, ch)
	}
	var files []string
	if o.ImportKey != "" {
		files = []string{o.ImportKey}
	}
	return o.From.Admit(cmd, ch.Chain, ch.PublicKey(), in.Abs(ch.State), files...)
}

// join returns the state that the chain is to share, after it came through the gate.
func (o *Order) join(cmd *cobra.Command, in *Installer, ch *Chain) (watermark.Saved, error) {
	ch.Join = true
	in.tables = NewTables([]*Chain{ch})
	state, err := in.House.Stores.StateIn(in.allTables(), in.Abs, ch.Chain, watermark.ID{ChainID: ch.ID, Key: ch.PublicKey().ID()})
	if err == nil {
		err = in.prepare(ch.Chain, state)
	}
	if err != nil {
		return watermark.Saved{}, err
	}
	return AdmitShared(cmd, &o.From.Words, ch.Chain, state)
}

// Start says what a state begins with.
type Start struct {
	Words
	Said
	// Keeper is who goes on with the state as it is, where the key does not start over; nil:
	// only a bare mark is accepted.
	Keeper provider.StateKeeper
}

// Said is what an operator has said of what a key has signed; the zero Said is nothing.
type Said struct {
	Fresh   bool
	After   int64  // 0 is not given
	Initial int64  // the first height of a fresh state; 0 is not given
	File    string // where --import-state is one of them
}

func (f *Start) Add(a *provider.House, cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.Fresh, "fresh-state", false, "confirm that the key has never signed for this chain id, anywhere")
	cli.AddHeight(cmd, &f.After, "after-height", "sign nothing at or below this height; choose one well above everything that the chain has reached")
	f.Words.Add(a, cmd)
}

// stateWords are the flags that say what a key has signed, with whether they have a
// value.
var stateWords = map[string]bool{"--fresh-state": false, "--import-state": true, "--after-height": true, "--initial-height": true, "--join-state": false}

// AddInitial adds --initial-height, for commands that make a state.
func (f *Start) AddInitial(cmd *cobra.Command) {
	cli.AddHeight(cmd, &f.Initial, "initial-height", "for a key that never signed and joins a running chain: sign nothing below this height")
}

// AddFile adds --import-state, for commands that take a key in.
func (f *Start) AddFile(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.File, "import-state", "", "state file of the old signer, or one that was exported")
	f.AddExport(cmd)
}

// Count returns how many of the flags are given that say what the key has signed. A
// file that says "nothing", and the word that this is so, are one.
func (f *Start) Count() int {
	n := 0
	for _, given := range []bool{f.Fresh || f.File != "", f.After != 0} {
		if given {
			n++
		}
	}
	return n
}

// Check finds what does not go together.
func (f *Start) Check() error {
	if f.Initial != 0 && (f.After != 0 || f.File != "") {
		return cli.Usagef("--initial-height goes with --fresh-state, or with a new key")
	}
	return nil
}

// mark returns the mark to begin with, where no file says it.
func (f *Start) mark() watermark.Mark {
	switch {
	case f.Fresh && f.File == "" && f.Initial > 1:
		return watermark.Floor(f.Initial - 1)
	case f.Fresh:
		return watermark.Mark{}
	}
	return watermark.Floor(f.After)
}

// Incoming returns what the flags bring to the gate, and where the host that wrote it
// is known, which.
func (f *Start) Incoming(name, chainID string, key pubkey.Key) (Incoming, Exporter, error) {
	in := Incoming{Chain: name, Mark: f.mark()}
	switch {
	case f.Fresh && f.File == "":
		in.Origin, in.From = FromNothing, "your --fresh-state: the key has never signed on this chain, anywhere"
		return in, Exporter{}, nil
	case f.File == "":
		in.Origin, in.From = FromWord, fmt.Sprintf("your --after-height %d, which has to be well above everything that the chain has reached", f.After)
		return in, Exporter{}, nil
	}
	state, err := ReadState(f.File, chainID, key)
	if err != nil {
		return in, Exporter{}, err
	}
	accepts := f.House.Providers.Bare
	if f.Keeper != nil {
		accepts = f.Keeper.Accepts
	}
	if err := accepts(state.Mark); err != nil {
		return in, Exporter{}, err
	}
	if f.Fresh && !state.Mark.IsZero() {
		return in, Exporter{}, cli.Usagef("%s says that the key has signed up to %s, and --fresh-state says that it never did; leave out the one that is wrong", f.File, MarkText(state.Mark))
	}
	if f.Fresh {
		in.Origin = FromNothing
	}
	in.Mark, in.Written, in.From = state.Mark, state.Time, f.File+", "+state.From
	return in, state.By, nil
}

// Admit returns the state to begin with at path, for a key of a chain. keyFiles are
// where the key comes from, as far as that is known.
func (f *Start) Admit(cmd *cobra.Command, ch config.Chain, key pubkey.Key, path string, keyFiles ...string) (watermark.Saved, error) {
	in, by, err := f.Incoming(ch.Name, ch.ID, key)
	if err != nil {
		return watermark.Saved{}, err
	}
	in.Own = by.Same(ExporterOf(path, provider.Info{}))
	here := Here{Beside: Beside(ch.ID, key, keyFiles)}
	g := f.Gate(cmd, ch, f.Fresh)
	g.AtHeight = func() string { return cli.Instead(stateWords, "--after-height H") }
	g.Take = func(path string) string {
		if cmd.Flags().Lookup("import-state") == nil {
			return f.House.Line("state import --chain-id %s %s", shell.Word(ch.Name), shell.File(path))
		}
		return cli.Instead(stateWords, "--import-state "+shell.Word(path))
	}
	if err := g.Admit(in, here); err != nil {
		return watermark.Saved{}, err
	}
	return watermark.Saved{Mark: in.Mark, Time: in.Written}, nil
}

// Beside looks for states where the signers of key files keep them.
func Beside(chainID string, key pubkey.Key, keyFiles []string) (list []Found) {
	for _, path := range keyFiles {
		for _, f := range migrate.Beside(path, chainID, key) {
			list = append(list, Found{Path: f.Path, Mark: f.Mark, Err: f.Err})
		}
	}
	return list
}

// NoteWitness says what is missing without a witness.
func NoteWitness(w io.Writer, witness []string) {
	if len(witness) == 0 {
		fmt.Fprintln(w, "note: "+NoWitness)
	}
}

const NoWitness = "no witness: only the state records what the key has signed, and a second signer would go unnoticed; see \"A witness\" in doc/operations.md"
