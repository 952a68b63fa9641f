// Package nitrohost is what runs outside of an AWS Nitro enclave, in the process of
// `privyseal start`: it launches the enclave or finds it running, keeps its
// state, connects it to its nodes and to KMS, gives it credentials to boot with,
// and hands on what it reports.
//
// It holds no key and signs nothing. The enclave does not trust it; what is here
// decides whether the validator signs, never what. From the enclave it takes
// bytes within limits: no port waits for another, and what the enclave says of
// itself is no proof of anything.
//
// The enclave outlives this process: without a host to acknowledge its state it
// refuses to sign, and the next process finds it and boots it again.
package nitrohost

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
)

// Config is one enclave with all that it signs for. Fields are required unless
// they say otherwise.
type Config struct {
	Launcher *Launcher
	// Dir is the folder with the unix sockets of the monitor that the enclave runs
	// in; empty is AF_VSOCK, whose ports all enclaves of an instance share.
	Dir string
	// Policy is the SHA-256 of the policy file in the image.
	Policy [32]byte
	// KMS is the only place that the enclave can reach by way of us: that of the
	// policy, where it is no service of this host.
	KMS         policy.Endpoint
	Credentials Source
	Chains      []Chain
	// LogLevel is the enclave's: debug, info, warn or error.
	LogLevel string
	// StopEnclave ends the enclave when Run ends. Optional: otherwise it waits for
	// the next host.
	StopEnclave bool
	Log         *slog.Logger
	// Up is told when an enclave was found or launched, and when it is gone.
	// Optional.
	Up func(bool)
}

// Source finds credentials of AWS that may use the KMS key.
type Source interface {
	Credentials(context.Context) (secret.AWS, error)
}

// Chain is one chain to sign for.
type Chain struct {
	ID watermark.ID
	// Wrapped is the wrapped key, Identity the wrapped identity; the latter is
	// optional where no node asks for one.
	Wrapped, Identity []byte
	Nodes             []Node
	// Store keeps the records of the enclave. Nobody else writes to it; closing it
	// stays with the caller, after Run has returned.
	Store    watermark.Store
	Observer Observer
	// Closed says why the enclave may not reach its nodes now; nil: it may. A
	// connection that stands ends when Cut is closed. Both are optional.
	Closed func() error
	Cut    <-chan struct{}

	// See the config keys of the same names. 0 is the enclave's default.
	HeightBurst, HeightPerSecond int64
	Idle                         time.Duration
}

// Node is one node of a chain, whom we dial for the enclave.
type Node struct {
	Name string
	// Addr is what the enclave gets, with the peer that it has to expect.
	Addr string
	// Network is unix or tcp, and Address what we dial.
	Network, Address string
	// PeerUID is whom the other end of a unix socket has to belong to, nil for
	// anybody. Linux only.
	PeerUID *uint32
}

// Observer is told of one chain. Its methods are called from several goroutines
// and must not wait: Acked stands between the disk and the signature.
type Observer interface {
	// Status says that the enclave can sign, with which key, or why it cannot.
	Status(keyType string, public []byte, problem error)
	// Acked reports every record that became durable.
	Acked(hostlink.Record)
	// Event reports what became of a request, by the enclave's word.
	Event(hostlink.Event)
	// Node reports a change of the connection to a node: dialling, parked or
	// serving.
	Node(name, state string, err error)
}

// pace is how long things may take.
type pace struct {
	poll     time.Duration // between two questions to a healthy enclave
	redial   time.Duration // between two attempts to reach it
	look     time.Duration // between two looks whether a silent one still runs
	silence  time.Duration // after which one that runs but does not answer is ended
	patience time.Duration // for an answer; above the enclave's own limit
	stable   time.Duration // life after which a restart comes at once
	first    time.Duration // pause before the second restart or boot, doubled from then on
	longest  time.Duration // such pause
	life     time.Duration // of a connection to KMS
}

var usual = pace{
	poll: 2 * time.Second, redial: 50 * time.Millisecond, look: 2 * time.Second, silence: 3 * time.Minute, patience: 150 * time.Second,
	stable: time.Minute, first: time.Second, longest: time.Minute, life: 5 * time.Minute,
}

// Host serves one enclave after the other.
type Host struct {
	Config
	pace
	chains map[string]*chain
	states map[watermark.ID]*hostlink.Keeper
	// poke asks for a look at the enclave now: a connection of it has ended.
	poke  chan struct{}
	flood *limiter
	once  *deduper
	// mayServe says whether this process has the right to an enclave's ports.
	mayServe func() error
	// ours is where an enclave answers that is ours, nil while there is none.
	ours atomic.Pointer[vsock.Host]
}

// New returns the host of an enclave. The error is a mistake in c.
func New(c Config) (*Host, error) { return newHost(c, usual) }

// Run keeps the enclave running and served until ctx ends. What fails is told to
// the observers and tried again, with growing pauses: an operator mends it
// without a restart. The error is why the enclave could not be ended. Run is
// called once.
func (h *Host) Run(ctx context.Context) error {
	var own string // id of the enclave that we launched or served last
	pause := backoff{first: h.first, longest: h.longest}
	for ctx.Err() == nil {
		e, adopted, err := h.ensure(ctx)
		if err == nil {
			h.logFound(e, adopted)
			began := time.Now()
			var served bool
			if served, err = h.serve(ctx, e); served || !adopted {
				own = e.ID
			}
			if time.Since(began) >= h.stable {
				pause.reset()
			}
		}
		if ctx.Err() != nil {
			break
		}
		h.gone(err)
		pause.wait(ctx)
	}
	if h.StopEnclave && own != "" {
		h.Log.Info("ending the enclave", "id", own)
		return h.Launcher.Stop(ctx, own)
	}
	return nil
}

// ensure finds or launches the enclave, but none that we may not serve.
func (h *Host) ensure(ctx context.Context) (e Enclave, adopted bool, err error) {
	if err := h.mayServe(); err != nil {
		return Enclave{}, false, fmt.Errorf("cannot serve the enclave: %w", err)
	}
	return h.Launcher.Ensure(ctx)
}

func (h *Host) logFound(e Enclave, adopted bool) {
	if adopted {
		h.Log.Info("found the enclave running", "id", e.ID, "cid", e.CID)
		return
	}
	h.Log.Info("launched the enclave", "id", e.ID, "cid", e.CID, "memory_mib", h.Launcher.MemoryMiB, "cpus", h.Launcher.CPUs)
}

// Ask asks the running enclave something beside what Run does, such as for an
// attestation.
func (h *Host) Ask(ctx context.Context, req hostlink.Request) (hostlink.Reply, error) {
	link := h.ours.Load()
	if link == nil {
		return hostlink.Reply{}, errors.New("the enclave does not run, or does not answer yet; `privyseal status` says why")
	}
	conn, err := link.Dial(ctx, hostlink.ControlPort)
	if err != nil {
		return hostlink.Reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(h.patience))
	return hostlink.Call(conn, req)
}

// chain is a Chain with the status that was reported last.
type chain struct {
	Chain
	nodes    map[string]*Node
	reported string
}

func newHost(c Config, p pace) (*Host, error) {
	if len(c.Chains) == 0 {
		return nil, errors.New("an enclave without chains")
	}
	h := &Host{
		Config: c, pace: p, chains: map[string]*chain{}, states: map[watermark.ID]*hostlink.Keeper{},
		poke: make(chan struct{}, 1), flood: newLimiter(), once: newDeduper(), mayServe: vsock.Host{Dir: c.Dir}.MayServe,
	}
	for _, cc := range c.Chains {
		if h.chains[cc.ID.ChainID] != nil {
			return nil, fmt.Errorf("duplicate chain %q", cc.ID.ChainID)
		}
		ch := &chain{Chain: cc, nodes: map[string]*Node{}}
		for i := range cc.Nodes {
			ch.nodes[cc.Nodes[i].Name] = &cc.Nodes[i]
		}
		h.chains[cc.ID.ChainID] = ch
		h.states[cc.ID] = &hostlink.Keeper{ID: cc.ID, Store: cc.Store, Acked: cc.Observer.Acked}
	}
	return h, nil
}

// serve serves one enclave until it is gone or ctx ends. It reports whether the
// enclave answered as ours.
func (h *Host) serve(ctx context.Context, e Enclave) (served bool, err error) {
	link := vsock.Host{CID: e.CID, Dir: h.Dir}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait() // the stores are the caller's again when Run returns
	defer cancel()
	for _, p := range h.ports() {
		l, err := link.Listen(p.number)
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w; is another privyseal running on this instance?", err)
			}
			return false, fmt.Errorf("cannot serve the enclave: %w", err)
		}
		group.Go(func() { h.accept(ctx, l, p) })
	}
	if h.Up != nil {
		h.Up(true)
	}
	return h.control(ctx, link, e)
}

// gone tells everybody that the enclave is not there, and why.
func (h *Host) gone(err error) {
	if h.Up != nil {
		h.Up(false)
	}
	for _, c := range h.chains {
		h.tell(c, "", nil, err)
		for name := range c.nodes {
			c.Observer.Node(name, "dialling", errors.New("there is no enclave to serve it"))
		}
	}
}

// tell reports the status of a chain where it differs from the last one.
func (h *Host) tell(c *chain, keyType string, public []byte, problem error) {
	now := keyType + " " + hex.EncodeToString(public)
	if problem != nil {
		now = problem.Error()
	}
	if now == c.reported {
		return
	}
	c.reported = now
	c.Observer.Status(keyType, public, problem)
}

// backoff is a pause that doubles: none, first, twice that, up to longest.
type backoff struct{ first, longest, last time.Duration }

func (b *backoff) next() time.Duration {
	d := b.last
	b.last = min(max(b.first, 2*b.last), b.longest)
	return d
}

// wait waits for the next pause, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(b.next()):
	}
}

func (b *backoff) reset() { b.last = 0 }
