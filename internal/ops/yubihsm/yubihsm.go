package yubihsm

import (
	"context"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/yubico"
)

// Holder is the provider. A chain's key is a file that names the object on the devices and
// has its public half; identities are key files.
type Holder struct {
	provider.Files
	pool pool
	root yubico.Anchor // that attestations have to lead to; Yubico's, but in tests
}

// Public implements [provider.Holder].
func (*Holder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	r, err := yubihsm.ReadReference(c.Path(ch.Key))
	return r.Public, err
}

// Open implements [provider.Local]. No device need be there. All chains of a table share
// its devices.
func (h *Holder) Open(ctx context.Context, c *config.Config, ch config.Chain) (provider.Key, error) {
	set, err := reach.SetOf(c, ch)
	if err != nil {
		return nil, err
	}
	r, err := yubihsm.ReadReference(c.Path(ch.Key))
	if err != nil {
		return nil, cli.Act(err)
	}
	key, err := h.pool.key(ctx, place{set.Device, set.Login(c.Path), set.Audit(c.Path)}, r)
	if err != nil {
		return nil, cli.Act(err)
	}
	return key, nil
}
