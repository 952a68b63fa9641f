package provider

import (
	"errors"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/movenote"
	"privyseal/internal/watermark"
)

// Accepts refuses a state from elsewhere that the provider of a chain cannot go on from.
func (t Table) Accepts(ch config.Chain, m watermark.Mark) error {
	if keeper, keeps := t.Keeper(ch); keeps {
		return keeper.Accepts(m)
	}
	return t.Bare(m)
}

// Bare refuses a state that is not a bare mark, where a key starts over.
func (t Table) Bare(m watermark.Mark) error {
	for _, e := range t {
		if keeper, keeps := e.Holder.(StateKeeper); keeps && keeper.Accepts(m) == nil {
			return cli.Actf("the state is that of %s, at height %d; begin above it instead, with --after-height H, well above that and everything that the chain has reached", e.Writer, keeper.Shown(m).Height)
		}
	}
	return nil
}

// InPlace refuses a state that lies where a chain's is, and was written for a provider
// that the chain had before.
func (t Table) InPlace(c *config.Config, ch config.Chain, m watermark.Mark) error {
	if _, keeps := t.Keeper(ch); keeps {
		return nil // which judges it
	}
	return cure.Add(t.Bare(m), "once no enclave signs with the key any more: %s",
		cure.Command("privyseal", "state", "raise", "--home", c.Path("."), "--chain-id", ch.Name, "--after-height", "H"))
}

// ExplainState gives an error of a state the next step that its store cannot know: of a
// state that has ended on its way to another store, to go on; of one that is lost, that of a
// provider whose states only the one who signs can make.
func (t Table) ExplainState(c *config.Config, ch config.Chain, err error) error {
	e, ok := errors.AsType[*StateError](err)
	if ok && e.Reason == ErrExported {
		note, moving := movenote.Read(c.Path(ch.State))
		if !moving { // it was done, and the config was changed back since
			note, moving = movenote.Moved(c.Path(ch.State))
		}
		if moving && note.Leads(ch.Store, ch.StoreTable) {
			return &StateError{e.Reason, fmt.Errorf("%w: on its way to another store of this host", e.Err), "go on with " +
				cure.Command(append([]string{"privyseal", "state", "move", "--home", c.Path("."), "--chain-id", ch.Name}, note.Words()...)...)}
		}
	}
	keeper, keeps := t.Keeper(ch)
	if !ok || !keeps || e.Reason != ErrMissing && e.Reason != ErrDamaged {
		return err
	}
	return &StateError{e.Reason, e.Err, keeper.Lost(c, ch, e.Reason == ErrDamaged)}
}
