package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/migrate"
	"privyseal/internal/privval"
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func newStateCommand(a *app) *cobra.Command {
	return newGroupCommand("state", "Make, show and move the state that keeps a key from signing twice",
		newStateInitCommand(a), newStateAdoptCommand(a), newStateShowCommand(a), newStateImportCommand(a), newStateExportCommand(a))
}

// startFlags say what a state begins with.
type startFlags struct {
	fresh bool
	after int64
	file  string // where --import-state is one of them
}

const notAfter = -1

func (f *startFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.fresh, "fresh-state", false, "the key has never signed for this chain id, anywhere")
	cmd.Flags().Int64Var(&f.after, "after-height", notAfter, "sign nothing at or below this height")
}

// addFile adds --import-state, for commands that take a key in.
func (f *startFlags) addFile(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "import-state", "", "state file of the old signer, or one that was exported")
}

// count returns how many of the flags are given.
func (f *startFlags) count() int {
	n := 0
	if f.fresh {
		n++
	}
	if f.after != notAfter {
		n++
	}
	if f.file != "" {
		n++
	}
	return n
}

// read returns the state to begin with, for a key that comes in.
func (f *startFlags) read(chainID string, key pubkey.Key, stderr io.Writer) (watermark.Saved, error) {
	if f.file == "" {
		mark, err := f.mark()
		return watermark.Saved{Mark: mark}, err
	}
	saved, err := readState(f.file, chainID, key)
	if err == nil {
		err = notOfEnclave(saved.Mark)
	}
	if err == nil && saved.Mark.IsZero() {
		fmt.Fprintf(stderr, "%s says that the key has never signed; if that is not certain, begin again with --after-height\n", f.file)
	}
	return saved, err
}

// mark returns the mark to begin with, where no file says it.
func (f *startFlags) mark() (watermark.Mark, error) {
	switch {
	case f.fresh:
		return watermark.Mark{}, nil
	case f.after < 1 || f.after > math.MaxInt64/2:
		return watermark.Mark{}, usagef("--after-height %d is no height", f.after)
	}
	return watermark.Floor(f.after), nil
}

func newStateInitCommand(a *app) *cobra.Command {
	var chain chainFlag
	var from startFlags
	cmd := &cobra.Command{
		Use:   "init (--fresh-state | --after-height H)",
		Short: "Make a state that is missing",
		Long: `Make the state of a chain where there is none.

--fresh-state is your word that the key has never signed for this chain id. If
that is wrong, the validator signs twice and is slashed.

--after-height H is the way back after a lost host: nothing at or below H is ever
signed. Take a height that the chain has not reached yet, minutes ahead.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.choose(a)
			if err != nil {
				return err
			}
			if from.count() != 1 {
				return usagef("add --fresh-state if the key has never signed for chain %q, or else --after-height H; see `privyseal state init --help`", ch.Name)
			}
			mark, err := from.mark()
			if err != nil {
				return err
			}
			if ch.Provider == "nitro" {
				if from.fresh {
					return usagef("a key in an enclave has a state from its first day on; a lost one is made anew with --after-height H only, by an image whose policy has a state_floor for chain %q", ch.Name)
				}
				return newEnclaveState(cmd.Context(), a, c, ch, from.after, cmd.OutOrStdout())
			}
			fc, _, err := stateOf(c, ch)
			if err == nil {
				err = a.checkOwner()
			}
			if err != nil {
				return err
			}
			if err := filestore.Create(fc, watermark.Saved{Mark: mark}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: made %s, at %s\n", ch.Name, fc.Path, markText(mark))
			return err
		},
	}
	chain.add(a, cmd)
	from.add(cmd)
	return cmd
}

// stateOf returns where the state of a chain is and whose it is.
func stateOf(c *config.Config, ch config.Chain) (filestore.Config, pubkey.Key, error) {
	key, err := publicKey(c, ch)
	if err != nil {
		return filestore.Config{}, key, err
	}
	return stateFile(c.Path(ch.State), watermark.ID{ChainID: ch.ID, Key: key.ID()}), key, nil
}

// stateFile returns how the state at path is opened, on this host.
func stateFile(path string, id watermark.ID) filestore.Config {
	return filestore.Config{Path: path, ID: id, Host: filestore.HostFolders()}
}

func newStateAdoptCommand(a *app) *cobra.Command {
	var chain chainFlag
	var yes bool
	cmd := &cobra.Command{
		Use:   "adopt --yes",
		Short: "Accept a state that was copied, restored or moved",
		Long: `Accept a state file that was copied here, restored from a backup, or whose machine
changed its id. It says: this is the newest state of this key on this chain, and
no other copy of it signs, here or elsewhere. If that is wrong, the validator
signs twice and is slashed. When in doubt move the file aside, and use
"privyseal state init --after-height H" instead.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.choose(a)
			if err != nil {
				return err
			}
			fc, _, err := stateOf(c, ch)
			if err != nil {
				return err
			}
			info, err := filestore.Inspect(fc)
			if err != nil {
				return explainState(c, ch, err)
			}
			if info.Problem == nil {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing to adopt, the state is in order at %s\n", ch.Name, markText(enclaveMark(ch, info.Saved.Mark)))
				return err
			}
			if !errors.Is(info.Problem, filestore.ErrCopied) && !errors.Is(info.Problem, filestore.ErrRestored) {
				return explainState(c, ch, info.Problem)
			}
			if !yes {
				return actf("%s is at %s, written %s. To adopt it is to say that this key has signed nothing newer on %s, and that no other copy signs; if that is wrong, the validator is slashed. To say so type %s",
					fc.Path, markText(enclaveMark(ch, info.Saved.Mark)), info.Saved.Time.Format(time.RFC3339), ch.Name, a.command("state adopt --chain-id %s --yes", ch.Name))
			}
			if err := filestore.Adopt(fc); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: adopted %s, at %s\n", ch.Name, fc.Path, markText(enclaveMark(ch, info.Saved.Mark)))
			return err
		},
	}
	chain.add(a, cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "the key has signed nothing newer, and no other copy signs")
	return cmd
}

func newStateShowCommand(a *app) *cobra.Command {
	var chain chainFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the last mark, and whether its file is in order",
		Long: `Show the last mark of a chain, and whether its file is in order. It only reads,
also while "privyseal start" runs. The exit status is 79 if start would refuse the
file.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.choose(a)
			if err != nil {
				return err
			}
			// A state can be looked at without its key, too.
			fc, _, keyErr := stateOf(c, ch)
			if keyErr != nil {
				fc = stateFile(c.Path(ch.State), watermark.ID{})
			}
			info, err := filestore.Inspect(fc)
			if err != nil {
				return explainState(c, ch, err)
			}
			info.Problem = explainState(c, ch, info.Problem)
			info.Saved.Mark = enclaveMark(ch, info.Saved.Mark)
			if err := showState(cmd.OutOrStdout(), fc.Path, info, asJSON); err != nil {
				return err
			}
			if info.Problem != nil {
				return info.Problem
			}
			return keyErr
		},
	}
	chain.add(a, cmd)
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

func showState(w io.Writer, path string, info filestore.Info, asJSON bool) error {
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
	fmt.Fprintf(t, "file\t%s\n", path)
	fmt.Fprintf(t, "\tmode %s%s\n", s.Mode, prefixed(", on ", s.Filesystem))
	if s.WrittenAt != nil {
		fmt.Fprintf(t, "chain\t%s\n", s.ChainID)
		fmt.Fprintf(t, "mark\t%s\n", markText(m))
		if s.Block != "" {
			fmt.Fprintf(t, "block\t%s\n", s.Block)
		}
		fmt.Fprintf(t, "written\t%s\n", s.WrittenAt.Format(time.RFC3339))
	}
	switch {
	case info.Problem != nil:
		fmt.Fprintf(t, "condition\trefused\n")
	case s.Torn:
		fmt.Fprintf(t, "condition\tin order; one copy of a record has a bad checksum, its twin stands in for it\n")
	default:
		fmt.Fprintf(t, "condition\tin order\n")
	}
	return t.Flush()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// markText is a mark for people.
func markText(m watermark.Mark) string {
	switch {
	case m.IsZero():
		return "nothing signed yet"
	case m.Equal(watermark.Floor(m.Height)):
		return fmt.Sprintf("height %d, nothing at or below it is signed", m.Height)
	}
	return fmt.Sprintf("height %d, round %d, %s", m.Height, m.Round, m.Step)
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

func newStateExportCommand(a *app) *cobra.Command {
	var chain chainFlag
	var out string
	cmd := &cobra.Command{
		Use:   "export [--out FILE]",
		Short: "End the state here, and print it for another host",
		Long: `End the state of a chain on this host, and print it for "privyseal state import" on
another one. Before anything is printed it is durable that nothing is signed here
again, until a state at or above this one is imported here. Stop "privyseal
start" first. If the output is lost, export again: it stays the same.`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ch, err := chain.choose(a)
			if err != nil {
				return err
			}
			fc, key, err := stateOf(c, ch)
			if err != nil {
				return err
			}
			if out == "" {
				data, err := exportState(fc, key)
				if err != nil {
					return explainState(c, ch, err)
				}
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			if err := exportTo(out, fc, key); err != nil {
				return explainState(c, ch, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: nothing is signed here any more; on the new host type `privyseal state import %s`\n", ch.Name, shell.Word(out))
			return nil
		},
	}
	chain.add(a, cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to make; nothing is overwritten")
	return cmd
}

// exportState ends the state and returns it.
func exportState(fc filestore.Config, key pubkey.Key) ([]byte, error) {
	saved, err := filestore.Export(fc)
	if err != nil {
		return nil, err
	}
	return encodeInterchange(fc.ID.ChainID, key, saved, time.Now())
}

// exportTo exports into a new file. The file comes first, so that the state
// does not end for want of a place.
func exportTo(path string, fc filestore.Config, key pubkey.Key) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot export: %w", err)
	}
	data, err := exportState(fc, key)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(path) // made by us, and not whole
		return err
	}
	return nil
}

func newStateImportCommand(a *app) *cobra.Command {
	var chain chainFlag
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Raise the state to one from another host",
		Long: `Raise the state of a chain to one from another host, or make it where there is
none. Read are what "privyseal state export" wrote, CometBFT's
priv_validator_state.json and the state of tmkms and tmkms-light. It never lowers.
The other host must not sign any more: only "privyseal state export" sees to that
by itself.`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ch, err := chain.choose(a)
			if err == nil {
				err = a.checkOwner()
			}
			if err != nil {
				return err
			}
			fc, key, err := stateOf(c, ch)
			if err != nil {
				return err
			}
			saved, err := readState(args[0], ch.ID, key)
			if err == nil {
				err = checkRecord(ch, saved.Mark)
			}
			if err != nil {
				return err
			}
			err = filestore.Raise(fc, saved)
			if errors.Is(err, filestore.ErrMissing) {
				err = filestore.Create(fc, saved)
			}
			if err != nil {
				return explainState(c, ch, err)
			}
			info, err := filestore.Inspect(fc)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is at %s\n", ch.Name, fc.Path, markText(enclaveMark(ch, info.Saved.Mark)))
			return err
		},
	}
	chain.add(a, cmd)
	return cmd
}

// readState reads a state from elsewhere, which has to be that of the chain and
// the key, as far as its format says so.
func readState(path, chainID string, key pubkey.Key) (watermark.Saved, error) {
	fail := func(format string, args ...any) (watermark.Saved, error) {
		return watermark.Saved{}, actf("cannot import the state %s: %w; nothing was changed", path, fmt.Errorf(format, args...))
	}
	data, written, err := readStateFile(path)
	if err != nil {
		return watermark.Saved{}, fmt.Errorf("cannot import the state: %w", err)
	}
	if !looksExported(data) {
		mark, err := migrate.ParseState(data, chainID, key)
		if err != nil {
			return fail("%w", err)
		}
		return watermark.Saved{Mark: mark, Time: written}, nil
	}
	id, owner, saved, err := decodeInterchange(data)
	switch {
	case err != nil:
		return fail("%w", err)
	case id != chainID:
		return fail("it is of chain %q, not %q", id, chainID)
	case !owner.Equal(key):
		return fail("it is of another key, %v, not %v", owner, key)
	}
	return saved, nil
}
