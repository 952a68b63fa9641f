package enclavecommand

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/hostlink"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// NewState has an enclave make the state of a chain again, if its measured policy holds a
// floor for the chain: it is what [home.StateMaker] asks of a provider. f names the enclave of
// the chain, and measured what has the policy, as in "image"; back is the end of what is
// printed, once the operator can go back to the one without the floor.
func (k Kind) NewState(cmd *cobra.Command, a *provider.House, c *config.Config, ch config.Chain, from *home.Start, f Flags, measured, back string) error {
	if from.Fresh {
		return cli.Usagef("a key in an enclave has had a state since it was created; a lost one is only replaced with --after-height H, by an %s whose policy has a state_floor for chain %q", measured, ch.Name)
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
	public, err := k.Read(c.Path(ch.Key), ch.ID)
	if err != nil {
		return err
	}
	if _, err := from.Admit(cmd, ch, public, path); err != nil {
		return err
	}
	key, err := cli.ReadBounded(c.Path(ch.Key), maxKey)
	if err != nil {
		return err
	}
	e, err := f.Open(ctx, a, c)
	if err != nil {
		return err
	}
	defer e.Close()
	mark, err := e.newState(ctx, hostlink.NewState{ChainID: ch.ID, Wrapped: key, AfterHeight: from.After, Credentials: e.Credentials})
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
	_, err = fmt.Fprintf(w, "%s: made %s, at %s\n%s\n", ch.Name, path, home.MarkText(shown(mark)), back)
	return err
}

// newState asks for a state, and returns it as a host keeps it.
func (e *Session) newState(ctx context.Context, req hostlink.NewState) (watermark.Mark, error) {
	reply, err := e.Call(ctx, hostlink.Request{NewState: &req})
	if err != nil {
		return watermark.Mark{}, err
	}
	if reply.Created == nil {
		return watermark.Mark{}, errors.New("the enclave sent no state")
	}
	return hostlink.HostMark(reply.Created.Record)
}

// Records are states that only an enclave can authenticate: the part of
// [provider.StateKeeper] that is the same for all of them.
type Records struct{}

// Shown implements [provider.StateKeeper].
func (Records) Shown(m watermark.Mark) watermark.Mark { return shown(m) }

func shown(m watermark.Mark) watermark.Mark {
	if r, err := hostlink.ReadRecord(m.SignBytes); err == nil {
		return r.Mark
	}
	return m
}

// Accepts implements [provider.StateKeeper]: what is in place of sign bytes is a record.
func (Records) Accepts(m watermark.Mark) error {
	if own, err := hostlink.HostMark(m.SignBytes); err != nil || !own.Equal(m) {
		return cli.Actf("this state was not written by an enclave; only what `privyseal state export` has written on the enclave's old host can be imported")
	}
	return nil
}

// CheckRecord adds a row about a state that holds no record.
func CheckRecord(r *provider.Report, line int, m watermark.Mark) {
	if _, err := hostlink.ReadRecord(m.SignBytes); err != nil {
		r.Add(provider.Bad, line, "state", "it holds no record of an enclave: "+err.Error(), "put back the state of the chain's own enclave; if it is lost: `privyseal state init --help`")
	}
}
