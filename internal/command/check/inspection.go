package check

import (
	"slices"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// inspection is one run of `privyseal check`.
type inspection struct {
	app  *provider.House
	home string
	dial bool

	provider.Report
	running *monitor.Snapshot       // nil: no signer runs
	owners  map[watermark.ID]string // name of the chain that has an id with a key
}

// id returns what the mark of a chain is known by, the zero ID if its key cannot be read.
func (k *inspection) id(ch config.Chain) watermark.ID {
	key, err := k.app.Providers.Public(k.Config, ch)
	if err != nil {
		return watermark.ID{}
	}
	return watermark.ID{ChainID: ch.ID, Key: key.ID()}
}

// snapshot returns how the running signer sees a chain, nil if it does not.
func (k *inspection) snapshot(name string) *monitor.ChainSnapshot {
	if k.running == nil {
		return nil
	}
	at := slices.IndexFunc(k.running.Chains, func(c monitor.ChainSnapshot) bool { return c.Name == name })
	if at < 0 {
		return nil
	}
	return &k.running.Chains[at]
}

// entry returns the provider of a chain.
func (k *inspection) entry(ch config.Chain) provider.Entry {
	e, _ := k.app.Providers.Of(ch)
	return e
}

// isLocal reports whether the signer has the key of a chain itself, and opens it at a
// reload.
func (k *inspection) isLocal(ch config.Chain) bool {
	_, ok := k.app.Providers.Local(ch)
	return ok
}
