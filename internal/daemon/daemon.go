// Package daemon is a signer that runs: it opens the keys and states of a home folder,
// serves their nodes, watches their chains, takes new configs, and ends.
//
// What is signed is decided in internal/signer and internal/watermark; nothing here comes
// between a request and its answer. It knows no provider: a chain is opened by the
// provider.Local that has its key, or by a [Remote] and served by a [Service] where a
// process of its own signs. What is not signing (metrics, status, witness, journal) never
// stops signing.
package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync/atomic"

	"privyseal/internal/config"
	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// Daemon is what one process signs with. After the start its fields belong to the
// goroutine that tends it.
type Daemon struct {
	Home      string
	Providers provider.Table
	Stores    provider.Stores
	kinds     config.Kinds                  // of both
	Config    *config.Config                // what is in force
	looked    atomic.Pointer[config.Config] // the same, for who looks at databases
	Log       *slog.Logger
	setLevel  func(slog.Level)
	Monitor   *monitor.Monitor
	chains    []*chain // those that this process signs for, in the order of the config
	services  []Service
	owners    map[watermark.ID]string // name of the chain that has taken an id with a key
	end       context.CancelCauseFunc // ends it all, set once it serves
	busy      bool                    // a signature is still in progress at the end
	hangs     bool                    // what has the fields above does not come back
}

// chain is one chain that this process signs for.
type chain struct {
	cfg      config.Chain
	monitor  *monitor.Chain
	changed  map[string]func(session.State, error) // by the name of the node
	sessions map[string]*running                   // by the name of the node
	leaving  []*running                            // of nodes that were removed, not known to be done

	holder   provider.Local
	key      provider.Key
	identity ed25519.PrivateKey // nil without a node that asks for it
	store    watermark.Store
	signer   *signer.Signer // nil: it cannot sign
	state    provider.Kept  // what has the mark, with the signer
	err      error          // why it cannot
	*Guard                  // nil before the state is opened
}

// running is the session of one node.
type running struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when what was in flight is finished
}

// Remote is a provider whose chains are signed for by a process of their own, which a
// [Service] serves.
type Remote interface {
	// OpenRemote opens the states of chains, and makes what serves them. A chain that fails
	// is left out and reported to its monitor; a state that another process holds is
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

// ShownKey is a chain's key as status and metrics show it.
func ShownKey(k pubkey.Key, provider string) monitor.Key {
	return monitor.Key{
		Public:  base64.StdEncoding.EncodeToString(k.Bytes()),
		Address: fmt.Sprintf("%X", k.Address()), Type: string(k.Type()), Provider: provider,
	}
}
