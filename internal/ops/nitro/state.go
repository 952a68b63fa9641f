package nitro

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/ops/nitro/wrapped"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// RaiseState implements [home.StateMaker].
func (Holder) RaiseState(ch config.Chain) error {
	return cli.Usagef("the state of chain %q belongs to an enclave, which does not trust its host: only a state_floor in the image's policy raises it", ch.Name)
}

// NewState implements [home.StateMaker]: the enclave makes a state that is lost, if its
// measured policy holds a floor for the chain.
func (Holder) NewState(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, from *home.Start) error {
	if from.Fresh {
		return cli.Usagef("a key in an enclave has had a state since it was created; a lost one is only replaced with --after-height H, by an image whose policy has a state_floor for chain %q", ch.Name)
	}
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	state, _, err := home.StateOf(a, c, ch)
	if err != nil {
		return err
	}
	if state.Shared {
		return cli.Actf("the state of chain %q is in %s, and an enclave makes none there; a host that has not joined shares it with %s, and one that was restored comes back with %s",
			ch.Name, state.Where, a.Command("state join --chain-id %s", ch.Name), a.Command("state adopt --chain-id %s", ch.Name))
	}
	path := c.Path(ch.State)
	if _, err := state.Inspect(ctx); !errors.Is(err, provider.ErrMissing) {
		return cli.Actf("there is a state at %s; look at it with %s, and move it aside if it is lost for good", path, a.Command("state show --chain-id %s", ch.Name))
	}
	key, err := wrapped.Read(c.Path(ch.Key), ch.ID)
	if err != nil {
		return err
	}
	if _, err := from.Admit(cmd, ch, key.PublicKey, path); err != nil {
		return err
	}
	f := &enclaveFlags{name: ch.Table}
	e, err := f.open(ctx, a, c, true)
	if err != nil {
		return err
	}
	defer e.close()
	reply, err := e.call(ctx, hostlink.Request{NewState: &hostlink.NewState{ChainID: ch.ID, Wrapped: key.Data, AfterHeight: from.After, Credentials: hostlink.Credentials(e.credentials)}})
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
	if err := home.Quarantine(path, "the state was made by state init"); err != nil {
		return err
	}
	// The key was wrapped again as well; the file that is there stays good.
	if err := state.Create(ctx, watermark.Saved{Mark: mark}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: made %s, at %s\nnow go back to an image without that floor (%s, and `eif`), start the service, and take this one out of the key policy: as long as KMS admits it, whoever takes over this instance can have another new state made\n",
		ch.Name, path, home.MarkText(Holder{}.Shown(mark)), a.Command("nitro stop"))
	return err
}
