package daemon

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
)

// Remote is a provider whose chains are signed for by a process of their own, which a
// [Service] serves.
type Remote interface {
	// OpenRemote opens the states of chains, and makes what serves them. A chain that fails
	// is left out and told to its monitor; a state that another process holds is
	// provider.ErrLocked, and ends it. standby waits for such a state.
	OpenRemote(ctx context.Context, d *Daemon, chains []RemoteChain, standby bool) ([]Service, error)
}

// RemoteChain is one chain of a [Remote].
type RemoteChain struct {
	config.Chain
	Monitor *monitor.Chain
}

// Service serves a process that signs.
type Service interface {
	// Run serves until ctx ends and all is done.
	Run(ctx context.Context) error
	// Settled waits until it is known of all its chains whether they sign, and reports
	// whether that was before ctx ended.
	Settled(ctx context.Context) bool
	// Close lets go of the states.
	Close()
}

// Attester is a Service that can prove which key it signs with.
type Attester interface {
	// Attest returns a document about a chain by its name, and whether it serves that.
	Attest(ctx context.Context, chain string, nonce []byte) (document []byte, known bool, err error)
}
