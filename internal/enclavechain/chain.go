// Package enclavechain is the chains that an enclave signs for, as `privyseal start` serves
// them, whatever the TEE: what the host has of each (wrapped keys, the state), what it reports,
// and the host of each enclave (enclavehost). What one kind of enclave has of its own, a
// [World] knows.
//
// Nothing here signs, and what is here is not trusted by the enclave.
package enclavechain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/daemon"
	"privyseal/internal/enclavechain/sharing"
	"privyseal/internal/enclavefile"
	"privyseal/internal/enclavehost"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// Keys are the wrapped keys of a chain, as the host has them.
type Keys struct {
	Key, Identity []byte // files; Identity is nil where the chain has none
	Public        pubkey.Key
	// Disallowed says why an enclave with this policy will not sign with them, and what
	// repairs it. Both are empty for what it allows.
	Disallowed func(p *policy.Policy) (why, cure string)
}

// KeysIn reads the keys of a chain, out of files of a form.
func KeysIn(files *enclavefile.Form, c *config.Config, ch config.Chain) (Keys, error) {
	key, identity, err := files.Of(c, ch)
	if err != nil {
		return Keys{}, err
	}
	keys := Keys{Key: key.Data, Public: key.PublicKey, Disallowed: func(p *policy.Policy) (why, cure string) {
		return files.Disallowed(p, ch.ID, key, identity)
	}}
	if identity != nil {
		keys.Identity = identity.Data
	}
	return keys, nil
}

// World is what the host has of one kind of enclave.
type World interface {
	// Keys reads the wrapped keys of a chain.
	Keys(c *config.Config, ch config.Chain) (Keys, error)
	// Host returns the host's config of an enclave by its name, without chains, and the
	// policy that it is measured with.
	Host(d *daemon.Daemon, name string) (enclavehost.Config, *policy.Policy, error)
	Words() Words
}

// Words are what messages say of one kind of enclave.
type Words struct {
	sharing.Words
	Stuck string // about an enclave that could not be ended in time
}

// chain is one chain that an enclave signs for. It is the host's observer.
type chain struct {
	cfg     config.Chain
	log     *slog.Logger
	monitor *monitor.Chain
	nodes   map[string]*node

	keys    Keys
	id      watermark.ID
	store   watermark.Store
	members *provider.Members               // of the database that has the mark, and store its floor; or nil
	db      *sharing.Database               // the same, as the enclave needs it
	saved   atomic.Pointer[watermark.Saved] // the last durable record
	ask     sharing.Ask                     // of the enclave's host
	changed func()                          // is called when it can sign, or cannot
	settled chan struct{}                   // closed when that was known for the first time
	once    sync.Once
	*daemon.Guard
}

type node struct {
	changed func(session.State, error)
	serving atomic.Bool
}

// openChain reads what the host has of a chain: wrapped keys and state.
func openChain(ctx context.Context, w World, d *daemon.Daemon, cc config.Chain, m *monitor.Chain, standby bool) (c *chain, err error) {
	log := d.Log.With("chain_id", cc.ID)
	if cc.Name != cc.ID {
		log = log.With("chain", cc.Name)
	}
	c = &chain{cfg: cc, log: log, monitor: m, nodes: map[string]*node{}, settled: make(chan struct{})}
	c.changed = func() { d.Notify("STATUS=" + d.Summary()) }
	for _, n := range cc.Nodes {
		c.nodes[n.Name] = &node{changed: m.AddNode(n.Name, n.Addr)}
	}
	defer func() {
		if err != nil && !errors.Is(err, provider.ErrLocked) {
			m.Failed(err)
		}
	}()
	if c.keys, err = w.Keys(d.Config, cc); err != nil {
		return nil, err
	}
	public := c.keys.Public
	c.id = watermark.ID{ChainID: cc.ID, Key: public.ID()}
	if err := d.Claim(c.id, cc.Name); err != nil {
		return nil, err
	}
	state, err := d.Stores.State(d.Config, cc, c.id)
	if err == nil {
		err = d.Providers.Unreached(cc, state)
	}
	if err != nil {
		return nil, err
	}
	if c.members = sharing.Reached(d.Config, cc); c.members != nil {
		if c.db, err = sharing.Of(*c.members); err != nil {
			return nil, err
		}
	}
	store, err := state.Open(ctx, standby)
	if err != nil {
		return nil, d.Providers.ExplainState(d.Config, cc, err)
	}
	saved, err := store.Load(ctx)
	if err = d.Providers.ExplainState(d.Config, cc, err); err == nil {
		var last hostlink.Record
		if last, err = hostlink.ReadRecord(saved.Mark.SignBytes); err != nil {
			err = fmt.Errorf("the state %s holds no record of an enclave: %w; put back the state of the chain's own enclave, and if it is lost see `privyseal state init --help`", state.Where, err)
		}
		c.Acked(last)
	}
	if err != nil {
		store.Close()
		return nil, err
	}
	if c.Guard, err = d.NewGuard(cc, public, m); err != nil {
		store.Close()
		return nil, err
	}
	c.Begin(c.saved.Load().Mark, c.load())
	c.store = store
	return c, nil
}

// load returns how a witness loads a mark in a database, which the enclave alone can read; nil
// for one that is here.
func (c *chain) load() witness.Load {
	if c.db == nil {
		return nil
	}
	return func(ctx context.Context, upTo watermark.Mark) (watermark.Mark, error) {
		return sharing.Look(ctx, c.ask, c.cfg.ID, upTo)
	}
}

// Status implements enclavehost.Observer.
func (c *chain) Status(keyType string, public []byte, problem error) {
	defer func() {
		c.changed()
		c.once.Do(func() { close(c.settled) })
	}()
	var key pubkey.Key
	if problem == nil {
		key, problem = c.checkPublic(keyType, public)
	}
	if problem == nil {
		problem = c.Final()
	}
	if problem != nil {
		c.monitor.Failed(provider.Explained(c.store, problem))
		return
	}
	c.log.Info("the enclave signs for this chain")
	c.monitor.Ready(daemon.ShownKey(key, c.cfg.Provider), func() watermark.Saved { return *c.saved.Load() })
}

// checkPublic checks that the enclave has the key that its file names, and returns it.
func (c *chain) checkPublic(keyType string, public []byte) (pubkey.Key, error) {
	t, err := pubkey.ParseType(keyType)
	if err != nil {
		return pubkey.Key{}, fmt.Errorf("the enclave has a key of an unknown type: %w", err)
	}
	key, err := pubkey.New(t, public)
	if err != nil {
		return pubkey.Key{}, fmt.Errorf("the enclave sent an invalid public key: %w", err)
	}
	if key.ID() != c.id.Key {
		return pubkey.Key{}, fmt.Errorf("the enclave has another key, %v", key)
	}
	return key, nil
}

// Acked implements enclavehost.Observer.
func (c *chain) Acked(r hostlink.Record) {
	if c.db != nil {
		r.Mark = sharing.Signed(r) // what is in it, Event knows
	} else if c.Guard != nil {
		c.Signed(r.Mark, nil) // it will be
	}
	c.saved.Store(&watermark.Saved{Mark: r.Mark, Version: r.Seq, Time: r.Time})
}

// Event implements enclavehost.Observer.
func (c *chain) Event(e hostlink.Event) {
	o := monitor.Outcome{
		Node: e.Node, Kind: label(e.Kind), Reason: e.Reason, Repeated: e.Repeated, Unknown: e.Unknown, Nil: e.Nil,
		Fault: signer.Fault(e.Fault), StoreErrors: e.StoreErrors,
		Mark:  watermark.Mark{Height: e.Height, Round: e.Round, Step: watermark.Step(e.Step)},
		Queue: e.Queue, Store: e.Store, Sign: e.Sign, All: e.All,
	}
	if e.Reason != "" {
		o.Reason = label(e.Reason)
	}
	if e.Error != "" || e.Reason != "" {
		o.Err = errors.New(cmp.Or(e.Error, e.Reason))
	}
	if o.Fault == signer.StoreFault {
		o.Err = provider.Explained(c.store, o.Err)
	}
	c.monitor.Note(o)
	if len(e.SignBytes) > 0 && c.db != nil {
		o.Mark.SignBytes = e.SignBytes
		c.Signed(o.Mark, nil)
	}
	// The line that reported the connection may have been dropped.
	if n := c.nodes[e.Node]; n != nil && !n.serving.Load() {
		c.Node(e.Node, session.Serving.String(), nil)
	}
}

// label returns s if it can be the label of a metric of ours, which are few.
func label(s string) string {
	if s == "" || len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "other"
	}
	return s
}

// Node implements enclavehost.Observer.
func (c *chain) Node(name, state string, err error) {
	n := c.nodes[name]
	if n == nil {
		return
	}
	for _, s := range []session.State{session.Dialling, session.Parked, session.Serving} {
		if s.String() == state {
			n.serving.Store(s == session.Serving)
			n.changed(s, err)
		}
	}
}

// served is one enclave with its chains.
type served struct {
	host   *enclavehost.Host
	chains []*chain
	stuck  string
}

// Open is [daemon.Remote]'s OpenRemote, with a host for each enclave that has a chain.
func Open(ctx context.Context, w World, d *daemon.Daemon, chains []daemon.RemoteChain, standby bool) (services []daemon.Service, failed error) {
	byEnclave := map[string][]*chain{}
	for _, cc := range chains {
		c, err := openChain(ctx, w, d, cc.Chain, cc.Monitor, standby)
		if errors.Is(err, provider.ErrLocked) || ctx.Err() != nil {
			return nil, err // and the process ends
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("chain %s: %w", cc.Name, err))
			continue
		}
		byEnclave[c.cfg.Table] = append(byEnclave[c.cfg.Table], c)
	}
	for _, name := range slices.Sorted(maps.Keys(byEnclave)) {
		h, err := newHost(w, d, name, byEnclave[name])
		if h != nil {
			services = append(services, h)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("enclave %s: %w", name, err))
		}
	}
	return services, failed
}

// Close implements [daemon.Service].
func (h *served) Close() {
	for _, c := range h.chains {
		c.store.Close()
	}
}

// Settled implements [daemon.Service].
func (h *served) Settled(ctx context.Context) bool {
	for _, c := range h.chains {
		select {
		case <-c.settled:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// newHost makes the host of an enclave for those chains that it can sign for,
// and says why not for the others. Without any it is nil.
func newHost(w World, d *daemon.Daemon, name string, chains []*chain) (*served, error) {
	hc, p, err := w.Host(d, name)
	h := &served{stuck: w.Words().Stuck}
	var failed error
	for _, c := range chains {
		chainErr := err
		if err == nil {
			why, cure := c.keys.Disallowed(p)
			if why == "" {
				why, cure = w.Words().Misplaced(p, c.cfg, c.members)
			}
			if why != "" {
				chainErr = errors.New(why + "; " + cure)
			}
		}
		var hostChain enclavehost.Chain
		if chainErr == nil {
			hostChain, chainErr = c.forHost()
		}
		if chainErr != nil {
			failed = errors.Join(failed, fmt.Errorf("chain %s: %w", c.cfg.Name, chainErr))
			c.fail(chainErr)
			continue
		}
		hc.Chains = append(hc.Chains, hostChain)
		c.db.Into(&hc, p)
		h.chains = append(h.chains, c)
	}
	if len(h.chains) == 0 {
		return nil, failed
	}
	if h.host, err = enclavehost.New(hc); err != nil {
		for _, c := range h.chains {
			c.fail(err)
		}
		return nil, errors.Join(failed, err)
	}
	for _, c := range h.chains {
		c.ask = h.host.Ask
	}
	return h, failed
}

// fail gives up a chain before an enclave has it: its state is free again.
func (c *chain) fail(err error) {
	c.monitor.Failed(err)
	c.store.Close()
}

func (c *chain) forHost() (enclavehost.Chain, error) {
	out := enclavehost.Chain{
		ID: c.id, Wrapped: c.keys.Key, Identity: c.keys.Identity, Store: c.store, Observer: c,
		Closed: c.Closed, Cut: c.Cut,
		HeightBurst: c.cfg.HeightBurst, HeightPerSecond: c.cfg.HeightPerSecond, Idle: c.cfg.Timeout.Duration,
	}
	if c.db != nil {
		out.StateID = sharing.FloorID(c.id)
	}
	for _, n := range c.cfg.Nodes {
		addr, err := session.ParseAddr(n.Addr)
		if err != nil {
			return out, err
		}
		out.Nodes = append(out.Nodes, enclavehost.Node{Name: n.Name, Addr: n.Addr, Network: addr.Socket(), Address: addr.Address, PeerUID: n.PeerUID})
	}
	return out, nil
}

// Attest implements [daemon.Attester].
func (h *served) Attest(ctx context.Context, name string, nonce []byte) (document []byte, known bool, err error) {
	for _, c := range h.chains {
		if c.cfg.Name == name {
			reply, err := h.host.Ask(ctx, hostlink.Request{Attest: &hostlink.Attest{ChainID: c.cfg.ID, Nonce: nonce}})
			return reply.Document, true, err
		}
	}
	return nil, false, nil
}

// stopTimeout bounds the wait for the launcher at the end.
const stopTimeout = 75 * time.Second

// Run implements [daemon.Service].
func (h *served) Run(ctx context.Context) error {
	for _, c := range h.chains {
		c.Run(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- h.host.Run(ctx) }()
	<-ctx.Done()
	select {
	case err := <-done:
		return err
	case <-time.After(stopTimeout):
		return errors.New(h.stuck)
	}
}
