package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/home"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// wordFlags are the words by which an operator stands up for a mark that is not a
// chain's own live one.
type wordFlags struct {
	house             *provider.House
	yes, exportUnused bool
}

func (f *wordFlags) add(a *provider.House, cmd *cobra.Command) {
	f.house = a
	cmd.Flags().BoolVar(&f.yes, "yes", false, "the mark that is shown is right: the key has signed nothing newer, and no other signer has it")
}

// addExport adds the word for an export of this host itself.
func (f *wordFlags) addExport(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.exportUnused, "export-unused", false, "no host has signed with the state since it was exported here, nor can")
}

// gate returns the one gate for marks, for a chain of any provider.
func (f *wordFlags) gate(cmd *cobra.Command, ch config.Chain, fresh bool) *home.Gate {
	g := &home.Gate{
		Yes: f.yes, Fresh: fresh, ExportUnused: f.exportUnused, Shown: cmd.ErrOrStderr(), Again: cli.Again,
		Text: func(m watermark.Mark) string { return markText(f.house.Providers.Shown(ch, m)) },
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

// quarantine makes it durable that the state at path has a mark from elsewhere: a
// witness has to show first that no other signer lives. It comes before the mark is
// written; if we crash between the two, a start waits without need.
func quarantine(path, why string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return witness.SetQuarantine(path, why)
}

// startFlags say what a state begins with.
type startFlags struct {
	wordFlags
	fresh   bool
	after   int64
	initial int64  // the first height of a fresh state; 0 is not given
	file    string // where --import-state is one of them
}

const notAfter = -1

func (f *startFlags) add(a *provider.House, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.fresh, "fresh-state", false, "the key has never signed for this chain id, anywhere")
	fl.Int64Var(&f.after, "after-height", notAfter, "sign nothing at or below this height, which is well above everything that the chain has reached")
	f.wordFlags.add(a, cmd)
}

// stateWords are the flags that say what a key has signed, with whether they have a
// value.
var stateWords = map[string]bool{"--fresh-state": false, "--import-state": true, "--after-height": true, "--initial-height": true}

// addInitial adds --initial-height, for commands that make a state.
func (f *startFlags) addInitial(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.initial, "initial-height", 0, "where a key that never signed joins a chain: sign nothing below this height")
}

// addFile adds --import-state, for commands that take a key in.
func (f *startFlags) addFile(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "import-state", "", "state file of the old signer, or one that was exported")
	f.addExport(cmd)
}

// count returns how many of the flags are given that say what the key has signed. A
// file that says "nothing", and the word that this is so, are one.
func (f *startFlags) count() int {
	n := 0
	for _, given := range []bool{f.fresh || f.file != "", f.after != notAfter} {
		if given {
			n++
		}
	}
	return n
}

// check finds what is wrong with the numbers.
func (f *startFlags) check() error {
	const highest = 1 << 62 // what lies above could not be reached by any chain
	switch {
	case f.after != notAfter && (f.after < 1 || f.after > highest):
		return cli.Usagef("--after-height %d is not a height", f.after)
	case f.initial < 0 || f.initial > highest:
		return cli.Usagef("--initial-height %d is not a height", f.initial)
	case f.initial != 0 && (f.after != notAfter || f.file != ""):
		return cli.Usagef("--initial-height goes with --fresh-state, or with a new key")
	}
	return nil
}

// mark returns the mark to begin with, where no file says it.
func (f *startFlags) mark() watermark.Mark {
	switch {
	case f.fresh && f.file == "" && f.initial > 1:
		return watermark.Floor(f.initial - 1)
	case f.fresh:
		return watermark.Mark{}
	}
	return watermark.Floor(f.after)
}

// incoming returns what the flags bring to the gate, and where the host that wrote it
// is known, which.
func (f *startFlags) incoming(name, chainID string, key pubkey.Key) (home.Incoming, exporter, error) {
	in := home.Incoming{Chain: name, Mark: f.mark()}
	switch {
	case f.fresh && f.file == "":
		in.Origin, in.From = home.FromNothing, "your word, --fresh-state, that the key has never signed on this chain, anywhere"
		return in, exporter{}, nil
	case f.file == "":
		in.Origin, in.From = home.FromWord, fmt.Sprintf("your word, --after-height %d; it has to be well above everything that the chain has reached", f.after)
		return in, exporter{}, nil
	}
	state, err := readState(f.file, chainID, key)
	if err != nil {
		return in, exporter{}, err
	}
	if err := f.house.Providers.Bare(state.Mark); err != nil {
		return in, exporter{}, err
	}
	if f.fresh && !state.Mark.IsZero() {
		return in, exporter{}, cli.Usagef("%s says that the key has signed up to %s, and --fresh-state that it never did; leave out what is wrong", f.file, markText(state.Mark))
	}
	if f.fresh {
		in.Origin = home.FromNothing
	}
	in.Mark, in.Written, in.From = state.Mark, state.Time, f.file+", "+state.from
	return in, state.by, nil
}

// admit returns the state to begin with at path, for a key of a chain. keyFiles are
// where the key comes from, as far as that is known.
func (f *startFlags) admit(cmd *cobra.Command, ch config.Chain, key pubkey.Key, path string, keyFiles ...string) (watermark.Saved, error) {
	in, by, err := f.incoming(ch.Name, ch.ID, key)
	if err != nil {
		return watermark.Saved{}, err
	}
	in.Own = by.same(exporterOf(path, filestore.Info{}))
	here := home.Here{Beside: beside(ch.ID, key, keyFiles)}
	g := f.gate(cmd, ch, f.fresh)
	g.AtHeight = func() string { return cli.Instead(stateWords, "--after-height H") }
	g.Take = func(path string) string {
		if cmd.Flags().Lookup("import-state") == nil {
			return f.house.Line("state import --chain-id %s %s", shell.Word(ch.Name), shell.File(path))
		}
		return cli.Instead(stateWords, "--import-state "+shell.Word(path))
	}
	if err := g.Admit(in, here); err != nil {
		return watermark.Saved{}, err
	}
	return watermark.Saved{Mark: in.Mark, Time: in.Written}, nil
}

// beside looks for states where the signers of key files keep them.
func beside(chainID string, key pubkey.Key, keyFiles []string) (list []home.Found) {
	for _, path := range keyFiles {
		for _, f := range migrate.Beside(path, chainID, key) {
			list = append(list, home.Found{Path: f.Path, Mark: f.Mark, Err: f.Err})
		}
	}
	return list
}
