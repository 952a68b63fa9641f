package daemon

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/monitor"
	"privyseal/internal/privval"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// open loads the keys and states of all chains. A chain that fails is reported to
// the monitor and left out, but for a state that another process holds: then
// that process is running this home folder.
func (d *Daemon) open(ctx context.Context, standby bool) error {
	failed := d.openAll(ctx, d.Config.Chains, standby)
	if err := cmp.Or(ctx.Err(), locked(d.chains)); err != nil || errors.Is(failed, provider.ErrLocked) {
		return cmp.Or(err, failed)
	}
	failed = errors.Join(failed, sayFailed(d.chains))
	for _, c := range d.chains {
		if c.signer != nil {
			return nil
		}
	}
	if len(d.services) == 0 {
		return cli.Actf("no chain can sign:\n%w", failed)
	}
	return nil
}

// openAll opens chains: keys and states at once, for each costs some waiting for a
// disk, and all that can be seen of it in the order of the list.
func (d *Daemon) openAll(ctx context.Context, list []config.Chain, standby bool) (failed error) {
	var chains []*chain
	remote := map[string][]RemoteChain{} // by provider
	for _, cc := range list {
		m := d.Monitor.AddChain(cc.Name, cc.ID)
		if holder, ok := d.Providers.Local(cc); ok {
			chains = append(chains, newLocalChain(cc, holder, m))
		} else {
			remote[cc.Provider] = append(remote[cc.Provider], RemoteChain{cc, m})
		}
	}
	AtOnce(chains, func(c *chain) { c.err = c.openKeys(ctx, d.Config) })
	for _, c := range chains {
		if c.err == nil {
			c.err = d.Claim(c.id(), c.cfg.Name)
		}
	}
	failed = d.openRemote(ctx, remote, standby)
	if errors.Is(failed, provider.ErrLocked) || ctx.Err() != nil {
		return failed
	}
	d.openStates(ctx, chains, standby)
	d.chains = append(d.chains, chains...)
	return failed
}

// openRemote opens the chains of those providers that sign in a process of their own.
func (d *Daemon) openRemote(ctx context.Context, chains map[string][]RemoteChain, standby bool) (failed error) {
	for _, e := range d.Providers {
		remote, ok := e.Holder.(Remote)
		if !ok || len(chains[e.Name]) == 0 {
			continue
		}
		services, err := remote.OpenRemote(ctx, d, chains[e.Name], standby)
		d.services = append(d.services, services...)
		failed = errors.Join(failed, err)
		for _, s := range services {
			if _, attests := s.(Attester); attests {
				d.Monitor.Attest = d.attest
			}
		}
	}
	return failed
}

// attest asks the service of a chain for a document.
func (d *Daemon) attest(ctx context.Context, name string, nonce []byte) ([]byte, error) {
	for _, s := range d.services {
		if a, attests := s.(Attester); attests {
			if document, known, err := a.Attest(ctx, name, nonce); known {
				return document, err
			}
		}
	}
	return nil, fmt.Errorf("chain %s is not in an enclave", name)
}

// openStates opens the states of chains that have their key. Of two processes that
// wait for the same states none may get one while the other gets the next: who has
// the first one goes on.
func (d *Daemon) openStates(ctx context.Context, chains []*chain, standby bool) {
	openState := func(c *chain) {
		if c.err == nil {
			c.err = c.openState(ctx, d, standby)
		}
	}
	for standby && len(chains) > 0 {
		openState(chains[0])
		standby = chains[0].err != nil
		chains = chains[1:]
	}
	AtOnce(chains, openState)
}

// locked returns the failure of a chain whose state another process holds.
func locked(chains []*chain) error {
	for _, c := range chains {
		if errors.Is(c.err, provider.ErrLocked) {
			return c.err
		}
	}
	return nil
}

// sayFailed says which chains cannot sign, and returns why.
func sayFailed(chains []*chain) (failed error) {
	for _, c := range chains {
		if c.err != nil {
			failed = errors.Join(failed, fmt.Errorf("chain %s: %w", c.cfg.Name, c.err))
			c.monitor.Failed(c.err)
		}
	}
	return failed
}

// AtOnce calls f for all of list, some at the same time.
func AtOnce[T any](list []T, f func(T)) {
	const most = 32
	var group sync.WaitGroup
	free := make(chan struct{}, most)
	for _, x := range list {
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			f(x)
		})
	}
	group.Wait()
}

func newLocalChain(cc config.Chain, holder provider.Local, m *monitor.Chain) *chain {
	c := &chain{cfg: cc, holder: holder, monitor: m, changed: map[string]func(session.State, error){}, sessions: map[string]*running{}}
	for _, n := range cc.Nodes {
		c.changed[n.Name] = m.AddNode(n.Name, n.Addr)
	}
	return c
}

func (c *chain) openKeys(ctx context.Context, cfg *config.Config) (err error) {
	if c.key, err = c.holder.Open(ctx, cfg, c.cfg); err != nil {
		return err
	}
	if key, ok := c.key.(provider.Watched); ok {
		c.monitor.Devices(func() (list []monitor.Device) {
			for _, d := range key.Devices() {
				list = append(list, monitor.Device(d))
			}
			return list
		})
	}
	c.identity, err = openIdentity(cfg, c.cfg)
	return err
}

func (c *chain) id() watermark.ID {
	return watermark.ID{ChainID: c.cfg.ID, Key: c.key.PublicKey().ID()}
}

// openState loads the mark. With it the chain can sign.
func (c *chain) openState(ctx context.Context, d *Daemon, standby bool) error {
	cfg, cc, pub := d.Config, c.cfg, c.key.PublicKey()
	state, err := d.Stores.State(cfg, cc, c.id())
	if err != nil {
		return err
	}
	store, err := state.Open(ctx, standby)
	if err != nil {
		return d.Providers.ExplainState(cfg, cc, err)
	}
	// Not before the lock is ours: who held it may have been stopped for good while we
	// waited.
	if c.Guard, err = d.NewGuard(cc, pub, c.monitor); err != nil {
		store.Close()
		return err
	}
	s, err := signer.New(ctx, signer.Config{
		ChainID:        cc.ID,
		Key:            c.key,
		PubKey:         pubKeyOf(pub),
		Verify:         pub.Verifier(),
		Store:          store,
		Shared:         state.Shared,
		Heights:        watermark.Heights{Burst: cc.HeightBurst, PerSecond: cc.HeightPerSecond, Max: cc.MaxHeight},
		AllowSignBytes: cc.AllowSignBytes,
		AllowRawBytes:  cc.AllowRawBytes,
		Nodes:          len(cc.Nodes),
		Observe:        c.observe(c.monitor.Observe),
		Bounds:         c.bounds,
	})
	if err != nil {
		store.Close()
		return d.Providers.ExplainState(cfg, cc, err)
	}
	if err := d.Providers.InPlace(cfg, cc, s.Last().Mark); err != nil {
		store.Close()
		return err
	}
	c.store, c.signer, c.state = store, s, state
	c.Begin(s.Last().Mark, c.load())
	c.monitor.Ready(ShownKey(pub, cc.Provider), s.Last)
	return nil
}

// pubKeyOf returns a public key as nodes are given it.
func pubKeyOf(pub pubkey.Key) privval.PubKey {
	return privval.PubKey{Type: string(pub.Type()), Bytes: pub.Bytes(), Uncompressed: pub.Uncompressed()}
}

// Claim refuses a second chain of the same id and key: two states for one key would
// let it sign twice. A chain that is opened again keeps its claim.
func (d *Daemon) Claim(id watermark.ID, name string) error {
	if owner, taken := d.owners[id]; taken && owner != name {
		return cure.Add(cli.Actf("it has the id and the key of chain %q, and one key has one state", owner), "remove one of the two from %s", config.FileName)
	}
	if d.owners == nil {
		d.owners = map[watermark.ID]string{}
	}
	d.owners[id] = name
	return nil
}

// openIdentity returns the key that tcp and noise nodes know us by, or nil if
// the chain names none.
func openIdentity(cfg *config.Config, cc config.Chain) (ed25519.PrivateKey, error) {
	if cc.Identity == "" {
		return nil, nil
	}
	key, err := provider.OpenFile(cfg.Path(cc.Identity))
	if err != nil {
		return nil, err
	}
	identity, ok := key.Ed25519()
	if !ok {
		return nil, fmt.Errorf("identity %s is a %s key; identities are ed25519", cc.Identity, key.Type())
	}
	return identity, nil
}

func (d *Daemon) close() {
	for _, c := range d.chains {
		if d.busy {
			c.key = nil // somebody may still sign with it
		}
		if err := c.close(); err != nil {
			d.Log.Warn("cannot close the key", "chain", c.cfg.Name, "error", err)
		}
	}
	for _, s := range d.services {
		s.Close()
	}
}

// close lets go of key and state. The key is first: who gets the state then signs, and a
// device must not be asked what it has signed for us after it has signed for them.
func (c *chain) close() (err error) {
	if c.Guard != nil {
		c.unwatch()
	}
	if c.key != nil {
		err = c.key.Close()
	}
	if c.store != nil {
		c.store.Close()
	}
	return err
}
