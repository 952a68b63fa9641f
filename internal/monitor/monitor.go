// Package monitor is what a running signer reports: log lines, metrics, health,
// and the status that `privyseal status` and `privyseal check` ask for over a
// socket in the home folder.
//
// It only listens. It hears of requests and connections after they were
// decided, never blocks who reports to it, and nothing that it says or fails to say
// changes what is signed. It never sees a secret.
package monitor

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"privyseal/internal/oplog"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// SocketName is the name of the status socket in the home folder.
const SocketName = "privyseal.sock"

// Monitor gathers what is reported about all chains of a process. Its methods are
// safe for concurrent use.
type Monitor struct {
	log     *slog.Logger
	metrics *metrics
	version string
	started time.Time
	repeats oplog.Repeats
	opened  atomic.Bool

	// Attest returns an attestation document about a chain, as raw CBOR, with the
	// caller's nonce in it. It is nil where keys are in no enclave; it is set
	// before the status is served.
	Attest func(ctx context.Context, chainID string, nonce []byte) ([]byte, error)

	mu     sync.Mutex
	chains []*Chain // in the order of the config

	listeners []Listener
	clusters  []Cluster  // as they were seen last; the slice never changes
	findings  []Findings // likewise
}

// Chain gathers what is reported about one chain.
type Chain struct {
	log     *slog.Logger
	repeats *oplog.Repeats
	opened  *atomic.Bool // of the monitor
	name    string
	id      string
	metrics *chainMetrics

	mu          sync.Mutex
	key         Key
	last        func() watermark.Saved // nil: the chain cannot sign
	problem     string                 // why it cannot
	waits       string                 // why nothing is signed until an operator acts, though it was loaded
	signed      Signed
	lastRefusal *Refusal
	nodes       []*node

	witness func() witness.Snapshot // nil: nobody watches the chain
	devices func() []Device         // nil: no device signs for the chain
}

type node struct {
	name, addr string
	metrics    *nodeMetrics
	state      session.State
	since      time.Time
	lastError  string
	reconnects int

	saidUnknown bool // that it sends fields which we do not know
}
