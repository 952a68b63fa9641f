package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/hostlink"
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
		return nil
	}
	own, err := hostlink.HostMark(m.SignBytes)
	if err != nil || !own.Equal(m) {
		return actf("the state is none of an enclave; only what `privyseal state export` has written on the enclave's old host can be imported")
	}
	return nil
}

// newEnclaveState makes a state that is lost anew: the enclave does, if its
// measured policy holds a floor for the chain.
func newEnclaveState(ctx context.Context, a *app, c *config.Config, ch config.Chain, after int64, w io.Writer) error {
	fc, _, err := stateOf(c, ch)
	if err != nil {
		return err
	}
	if _, err := filestore.Inspect(fc); !errors.Is(err, filestore.ErrMissing) {
		return actf("there is a state at %s; look at it with %s, and move it aside if it is lost for good", fc.Path, a.command("state show --chain-id %s", ch.ID))
	}
	wrapped, _, public, err := readWrapped(c.Path(ch.Key), ch.ID)
	if err != nil {
		return err
	}
	f := &enclaveFlags{name: ch.Enclave}
	e, err := f.open(ctx, a, c, true)
	if err != nil {
		return err
	}
	defer e.close()
	creds, err := e.credentials(ctx)
	if err != nil {
		return err
	}
	reply, err := e.call(ctx, hostlink.Request{NewState: &hostlink.NewState{ChainID: ch.ID, Wrapped: wrapped, AfterHeight: after, Credentials: creds}})
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
	// The key was wrapped anew as well; the file that is there stays good.
	id := watermark.ID{ChainID: ch.ID, Key: public.ID()}
	if err := filestore.Create(filestore.Config{Path: c.Path(ch.State), ID: id}, watermark.Saved{Mark: mark}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: made %s, at %s\n", ch.ID, c.Path(ch.State), markText(enclaveMark(ch, mark)))
	return err
}
