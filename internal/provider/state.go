package provider

import (
	"errors"
	"strings"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/filestore"
	"privyseal/internal/shell"
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

// ExplainState gives the error of a state the next step that fits the chain, also where
// the chain's key is gone too.
func (t Table) ExplainState(c *config.Config, ch config.Chain, err error) error {
	var e *filestore.Error
	if !errors.As(err, &e) {
		return err
	}
	mended := *e
	lost := errors.Is(e, filestore.ErrMissing) || errors.Is(e, filestore.ErrDamaged)
	keeper, keeps := t.Keeper(ch)
	switch general := filestore.Cure(ch.ID, e.Err); {
	case lost && keeps:
		mended.Cure = keeper.Lost(c, ch, errors.Is(e, filestore.ErrDamaged))
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
