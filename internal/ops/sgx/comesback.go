package sgx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"privyseal/internal/claims"
	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/key/sgxseal"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/sgx/document"
	"privyseal/internal/watermark"
)

// expect refuses a backup of another key than the one that is to come back, as far as the
// files of this home say which that is: the sealed key, or else the document beside it. They are
// no proof, and only have to find a mistake: the enclave compares what comes out with the backup.
func expect(path, chainID string, b sgxseal.Backup, backup string) error {
	if b.ChainID != chainID {
		return cli.Usagef("%s is of chain %q, and the key that is to come back is of %q (\"\" is an identity)", backup, b.ChainID, chainID)
	}
	key, err := commands.Read(path, chainID)
	if errors.Is(err, fs.ErrNotExist) {
		return expectAttested(enclavekey.DocumentPath(path), chainID, b, backup)
	}
	if err != nil {
		return unread(err)
	}
	if !bytes.Equal(key.Bytes(), b.Public) {
		return cli.Usagef("%s is of the public key %s, and %s of %s; name the backup of that key", backup, claims.EncodeKey(b.Public), path, claims.EncodeKey(key.Bytes()))
	}
	return nil
}

// unread gives a sealed key that cannot be read the cure that is one here: a damaged file makes
// room for the key that comes back, and any other one is somebody's mistake.
func unread(err error) error {
	why, _ := cure.Split(err.Error())
	switch failed := errors.New(why); {
	case errors.Is(err, sgxseal.ErrSealed):
		return cure.Add(failed, "move that file aside, and type this again")
	case errors.Is(err, fs.ErrPermission):
		return cure.Add(failed, "type this as the user whom the file belongs to")
	default:
		return cure.Add(failed, "correct the path in the config, or put that file where it belongs: the key comes back into the one that the config names")
	}
}

// expectAttested is expect for a sealed key that is not there any more, by its document.
func expectAttested(path, chainID string, b sgxseal.Backup, backup string) error {
	data, err := cli.ReadBounded(path, 2*int64(document.MaxSize)) // in base64
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing here says it
	}
	if err != nil {
		return fmt.Errorf("cannot read which key comes back: %w", err)
	}
	d, err := document.Decode(document.Raw(data))
	var c claims.Claims
	if err == nil {
		c, err = claims.Decode(d.UserData)
	}
	if err != nil {
		return cure.Add(fmt.Errorf("cannot read in %s which key comes back: %w", path, err), "put that file back from where you keep a copy of it, or move it aside, and type this again")
	}
	if key := claims.EncodeKey(b.Public); c.Chain != chainID || c.Key != key {
		return cli.Usagef("%s is of the public key %s, and %s says that the key here is %s of chain %q; name the backup of that key", backup, key, path, c.Key, c.Chain)
	}
	return nil
}

// goesOn is the mark that a key goes on from which comes back, as its operator stands up for it.
type goesOn struct {
	words home.Words
	look  bool // only show it
}

// admit takes the mark of a chain through the gate: on a machine that was cloned, or brought
// back from an image of its disk, a state is as old as the rest, and nothing here can tell that
// from an update of microcode. What it returns has a witness look for another signer first; it
// is nil where others see to that.
func (g *goesOn) admit(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, key pubkey.Key) (watched func() error, err error) {
	state, err := a.Stores.State(c, ch, watermark.ID{ChainID: ch.ID, Key: key.ID()})
	if err != nil {
		return nil, err
	}
	stderr := cmd.ErrOrStderr()
	if state.Shared {
		_, err := fmt.Fprintf(stderr, "%s: the mark is in %s, which each signer of the key goes on from\n", ch.Name, state.Where)
		return nil, err
	}
	info, err := state.Inspect(cmd.Context())
	if err == nil {
		err = info.Problem
	}
	switch {
	case errors.Is(err, provider.ErrForeign):
		return nil, err
	case err != nil: // what brings it in has the gate, and a start refuses until then
		_, err := fmt.Fprintf(stderr, "note: before it signs, there is something to be done about its state: %v\n", a.Providers.ExplainState(c, ch, err))
		return nil, err
	}
	in := home.Incoming{
		Chain: ch.Name, Mark: info.Saved.Mark, Origin: home.FromHere, Written: info.Saved.Time,
		From: state.Where + ", which this host goes on from: it has to be the newest state of this key on any host",
	}
	// A key that has not signed yet comes back as well; whoever says that it is right says so.
	gate := g.words.Gate(cmd, ch, true)
	if g.look {
		gate.Look(in)
		return nil, nil
	}
	if err := gate.Admit(in, home.Here{}); err != nil {
		return nil, err
	}
	home.NoteWitness(stderr, ch.Witness)
	return func() error { return home.Quarantine(c.Path(ch.State), "the key was brought back from its backup") }, nil
}
