package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/hostlink"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// enclaveMark returns the mark that a state holds: where an enclave signs, it is
// in the record, which only an enclave can authenticate.
func enclaveMark(ch config.Chain, m watermark.Mark) watermark.Mark {
	if ch.Provider != "nitro" {
		return m
	}
	if r, err := hostlink.ReadRecord(m.SignBytes); err == nil {
		return r.Mark
	}
	return m
}

// checkRecord refuses a state that no enclave has made, for a chain in an
// enclave, and the other way round.
func checkRecord(ch config.Chain, m watermark.Mark) error {
	if ch.Provider != "nitro" {
		return notOfEnclave(m)
	}
	if !isRecord(m) {
		return cli.Actf("this state was not written by an enclave; only what `privyseal state export` has written on the enclave's old host can be imported")
	}
	return nil
}

// notOfEnclave refuses the state of an enclave where a key begins anew: what stands
// in it for sign bytes is a record.
func notOfEnclave(m watermark.Mark) error {
	if isRecord(m) {
		return cli.Actf("the state is that of an enclave, at height %d; begin above it instead, with --after-height H, well above that and everything that the chain has reached", recordHeight(m))
	}
	return nil
}

// recordHeight returns the height of the mark in an enclave's record.
func recordHeight(m watermark.Mark) int64 {
	if r, err := hostlink.ReadRecord(m.SignBytes); err == nil {
		return r.Mark.Height
	}
	return m.Height
}

func isRecord(m watermark.Mark) bool {
	own, err := hostlink.HostMark(m.SignBytes)
	return err == nil && own.Equal(m)
}

// explainState gives the error of a state the next step that fits the chain, also
// where the chain's key is gone too. Where an enclave has the key, no state is made
// by a command alone.
func explainState(c *config.Config, ch config.Chain, err error) error {
	var e *filestore.Error
	if !errors.As(err, &e) {
		return err
	}
	mended := *e
	lost := errors.Is(e, filestore.ErrMissing) || errors.Is(e, filestore.ErrDamaged)
	switch general := filestore.Cure(ch.ID, e.Err); {
	case lost && ch.Provider == "nitro":
		mended.Cure = lostEnclaveState(c, ch, errors.Is(e, filestore.ErrDamaged))
	case lost || e.Cure == general:
		mended.Cure = stateCure(c, ch, e.Err)
	default:
		return err
	}
	return &mended
}

// stateCure is filestore's, which knows the chain's id only, for the chain by its name
// and in its home.
func stateCure(c *config.Config, ch config.Chain, reason error) string {
	chain := " --chain-id " + shell.Word(ch.Name)
	return strings.ReplaceAll(filestore.Cure(ch.Name, reason), chain, " --home "+shell.Word(c.Path("."))+chain)
}

// lostEnclaveState says how the state of a key in an enclave comes back. What is to
// be typed on the instance it says; what is put into image and key policy only the
// operator's machine knows, so for that it names the guide, and the values for it.
func lostEnclaveState(c *config.Config, ch config.Chain, damaged bool) string {
	here := "--home " + shell.Word(c.Path("."))
	state, stop := here+" --chain-id "+shell.Word(ch.Name), here
	if len(c.Enclaves) > 1 {
		stop += " --enclave " + shell.Word(ch.Enclave)
	}
	values := "CHAIN=" + shell.Word(ch.ID)
	if _, h, public, err := readWrapped(c.Path(ch.Key), ch.ID); err == nil {
		values += " KEY=" + shell.Word(h.KeyARN)
		if pin, err := public.Format("base64", ""); err == nil {
			values += " PUBKEY=" + shell.Word(pin)
		}
	}
	begin := "put the file back if its disk still has it"
	if damaged {
		begin = "keep the file, move it aside"
	}
	return fmt.Sprintf("%s, or run `privyseal state import %s FILE` if it was exported; if it is lost for good, only another image, whose policy has a state_floor, makes it anew: "+
		"build it and let it in as doc/nitro.md says, \"The state is lost\", with %s, and with all else that policy file and key policy have now, every pin included; "+
		"then here stop the service (`systemctl stop privyseal-nitro`, all chains), which would launch the old image again, run `privyseal nitro stop %s`, put the new image in the place of %s, "+
		"run `privyseal state init %s --after-height H` with H well above the chain's height, and go back to the old image at once",
		begin, state, values, stop, shell.Word(c.Path(c.Enclaves[ch.Enclave].EIF)), state)
}

// newEnclaveState makes a state that is lost anew: the enclave does, if its
// measured policy holds a floor for the chain.
func newEnclaveState(cmd *cobra.Command, a *cli.App, c *config.Config, ch config.Chain, from *startFlags) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	fc, _, err := stateOf(c, ch)
	if err != nil {
		return err
	}
	if _, err := filestore.Inspect(fc); !errors.Is(err, filestore.ErrMissing) {
		return cli.Actf("there is a state at %s; look at it with %s, and move it aside if it is lost for good", fc.Path, a.Command("state show --chain-id %s", ch.Name))
	}
	wrapped, _, public, err := readWrapped(c.Path(ch.Key), ch.ID)
	if err != nil {
		return err
	}
	if _, err := from.admit(cmd, ch, public, fc.Path); err != nil {
		return err
	}
	f := &enclaveFlags{name: ch.Enclave}
	e, err := f.open(ctx, a, c, true)
	if err != nil {
		return err
	}
	defer e.close()
	reply, err := e.call(ctx, hostlink.Request{NewState: &hostlink.NewState{ChainID: ch.ID, Wrapped: wrapped, AfterHeight: from.after, Credentials: e.credentials}})
	if err != nil {
		return err
	}
	if reply.Created == nil {
		return errors.New("the enclave sent no state")
	}
	mark, err := hostlink.HostMark(reply.Created.Record)
	if err != nil {
		return err
	}
	if err := quarantine(fc.Path, "the state was made by state init"); err != nil {
		return err
	}
	// The key was wrapped again as well; the file that is there stays good.
	id := watermark.ID{ChainID: ch.ID, Key: public.ID()}
	if err := filestore.Create(stateFile(c.Path(ch.State), id), watermark.Saved{Mark: mark}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: made %s, at %s\nnow go back to an image without that floor (%s, and `eif`), start the service, and take this one out of the key policy: as long as KMS lets it in, whoever takes over this instance can have the state made anew once more\n",
		ch.Name, c.Path(ch.State), markText(enclaveMark(ch, mark)), a.Command("nitro stop"))
	return err
}
