package home

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// Words are the words by which an operator stands up for a mark that is not a
// chain's own live one.
type Words struct {
	House             *provider.House
	yes, exportUnused bool
}

func (f *Words) Add(a *provider.House, cmd *cobra.Command) {
	f.House = a
	cmd.Flags().BoolVar(&f.yes, "yes", false, "the mark that is shown is right: the key has signed nothing newer, and no other signer has it")
}

// AddExport adds the word for an export of this host itself.
func (f *Words) AddExport(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.exportUnused, "export-unused", false, "no host has signed with the state since it was exported here, and none can")
}

// Gate returns the one gate for marks, for a chain of any provider.
func (f *Words) Gate(cmd *cobra.Command, ch config.Chain, fresh bool) *Gate {
	g := &Gate{
		Yes: f.yes, Fresh: fresh, ExportUnused: f.exportUnused, Shown: cmd.ErrOrStderr(), Again: cli.Again,
		Text: func(m watermark.Mark) string { return MarkText(f.House.Providers.Shown(ch, m)) },
	}
	if t := terminalOf(cmd.InOrStdin()); t != nil {
		g.Terminal = t
	}
	return g
}

// terminalOf returns the terminal that in is, or nil.
func terminalOf(in io.Reader) *os.File {
	f, ok := in.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err != nil {
		return nil
	}
	return f
}

// Quarantine makes it durable that the state at path has a mark from elsewhere: a
// witness has to show first that no other signer lives. It comes before the mark is
// written; if we crash between the two, a start waits without need.
func Quarantine(path, why string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return witness.SetQuarantine(path, why)
}

// Start says what a state begins with.
type Start struct {
	Words
	Fresh   bool
	After   int64
	Initial int64  // the first height of a fresh state; 0 is not given
	File    string // where --import-state is one of them
}

const NotAfter = -1

func (f *Start) Add(a *provider.House, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.Fresh, "fresh-state", false, "the key has never signed for this chain id, anywhere")
	fl.Int64Var(&f.After, "after-height", NotAfter, "sign nothing at or below this height, which is well above everything that the chain has reached")
	f.Words.Add(a, cmd)
}

// stateWords are the flags that say what a key has signed, with whether they have a
// value.
var stateWords = map[string]bool{"--fresh-state": false, "--import-state": true, "--after-height": true, "--initial-height": true}

// AddInitial adds --initial-height, for commands that make a state.
func (f *Start) AddInitial(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.Initial, "initial-height", 0, "where a key that never signed joins a chain: sign nothing below this height")
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
	for _, given := range []bool{f.Fresh || f.File != "", f.After != NotAfter} {
		if given {
			n++
		}
	}
	return n
}

// Check finds what is wrong with the numbers.
func (f *Start) Check() error {
	const highest = 1 << 62 // what is above could not be reached by any chain
	switch {
	case f.After != NotAfter && (f.After < 1 || f.After > highest):
		return cli.Usagef("--after-height %d is not a height", f.After)
	case f.Initial < 0 || f.Initial > highest:
		return cli.Usagef("--initial-height %d is not a height", f.Initial)
	case f.Initial != 0 && (f.After != NotAfter || f.File != ""):
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
	if err := f.House.Providers.Bare(state.Mark); err != nil {
		return in, Exporter{}, err
	}
	if f.Fresh && !state.Mark.IsZero() {
		return in, Exporter{}, cli.Usagef("%s says that the key has signed up to %s, and --fresh-state that it never did; leave out what is wrong", f.File, MarkText(state.Mark))
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

// WitnessFlag is --witness of the commands that make a chain.
type WitnessFlag struct{ Addrs []string }

func (f *WitnessFlag) Add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.Addrs, "witness", nil, "RPC address of a node, as in http://127.0.0.1:26657, which is watched for signatures of another signer; may be repeated")
}

// Check finds what is wrong with the flag alone.
func (f *WitnessFlag) Check() error {
	for _, addr := range f.Addrs {
		if err := witness.CheckAddr(addr, nil); err != nil {
			return cli.Usagef("--witness: %w", err)
		}
	}
	return nil
}

// Note says what is missing without a witness.
func (f *WitnessFlag) Note(w io.Writer) {
	if len(f.Addrs) == 0 {
		fmt.Fprintln(w, "note: "+NoWitness)
	}
}

const NoWitness = "no witness: only the state knows what the key has signed, and nobody would see a second signer; see \"A witness\" in doc/operations.md"
