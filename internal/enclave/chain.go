package enclave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/privval"
	"privyseal/internal/session"
	"privyseal/internal/sharedmark"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

func (e *enclave) sorted() []*chain {
	list := make([]*chain, 0, len(e.chains))
	for _, id := range slices.Sorted(maps.Keys(e.chains)) {
		list = append(list, e.chains[id])
	}
	return list
}

func (c *chain) status() hostlink.ChainStatus {
	s := hostlink.ChainStatus{ID: c.id}
	if c.key != nil {
		s.KeyType, s.Public = string(c.key.Type()), c.key.PublicKey().Bytes()
	}
	if c.problem != nil {
		s.Problem, s.Cure = clip(c.problem.Error()), cureOf(c.problem)
	}
	if c.signer != nil {
		last := c.signer.Last()
		s.Seq, s.Mark = last.Version, last.Mark.String()
	}
	return s
}

// bootChains opens what is not open yet, and serves the nodes of the request. A
// chain that fails is reported in the status and does not stop the others.
func (e *enclave) bootChains(ctx, requestCtx context.Context, b *hostlink.Boot) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, b.LogLevel) {
		return fmt.Errorf("there is no log level %.20q", b.LogLevel)
	}
	if err := e.level.UnmarshalText([]byte(b.LogLevel)); err != nil {
		return err
	}
	// What never had a key is forgotten: who asks for chains at random gets no
	// memory, and no status that grows forever.
	maps.DeleteFunc(e.chains, func(_ string, c *chain) bool { return c.key == nil })
	if err := e.checkBoot(b); err != nil {
		return err
	}
	if err := e.takeDatabase(requestCtx, b); err != nil {
		return err
	}
	for i := range b.Chains {
		bc := &b.Chains[i]
		c := e.chains[bc.ID]
		if c == nil {
			c = &chain{id: bc.ID}
			e.chains[bc.ID] = c
		}
		// The host logs what the status says of it, once; it boots again and again.
		if c.problem = e.bootChain(requestCtx, c, bc, b.Credentials); c.problem != nil {
			continue
		}
		e.serveNodes(ctx, c, bc)
	}
	return nil
}

func (e *enclave) checkBoot(b *hostlink.Boot) error {
	nodes := map[string]int{} // by chain
	for id, c := range e.chains {
		nodes[id] = c.served
	}
	for i := range b.Chains {
		bc := &b.Chains[i]
		switch {
		// Wrapped with chain "" are identities, which sign no votes.
		case bc.ID == "" || len(bc.ID) > watermark.MaxChainID:
			return fmt.Errorf("a chain id has %d bytes, not 1 to %d", len(bc.ID), watermark.MaxChainID)
		case len(bc.Nodes) > hostlink.MaxNodes:
			return fmt.Errorf("chain %q has %d nodes, more than %d", bc.ID, len(bc.Nodes), hostlink.MaxNodes)
		}
		nodes[bc.ID] = len(bc.Nodes)
	}
	if len(nodes) > hostlink.MaxChains {
		return e.tooMany("chains", len(nodes), hostlink.MaxChains)
	}
	total := 0
	for _, n := range nodes {
		total += n
	}
	if total > hostlink.MaxServed {
		return e.tooMany("nodes of all chains", total, hostlink.MaxServed)
	}
	return nil
}

// tooMany says that there are more than the limit. The host holds its config to the
// limits, so what is too much comes from chains of earlier boots.
func (e *enclave) tooMany(what string, n, limit int) error {
	return &curedError{
		fmt.Errorf("%d %s, with those of earlier boots, more than %d", n, what, limit),
		"restart the enclave, which forgets those that are no longer in the config: " + e.c.Cures.Restart,
	}
}

func (e *enclave) bootChain(ctx context.Context, c *chain, bc *hostlink.BootChain, creds hostlink.Credentials) error {
	if c.key != nil && !bytes.Equal(c.wrapped, bc.Wrapped) {
		return &curedError{errors.New("this enclave has another wrapped key open for this chain"), "restart the enclave to use the other one: " + e.c.Cures.Restart}
	}
	if c.key == nil {
		key, origin, err := e.open(ctx, creds, bc.Wrapped, bc.ID)
		if err != nil {
			return err
		}
		c.key, c.origin, c.wrapped = key, origin, bc.Wrapped
	}
	if c.identity == nil && len(bc.Identity) > 0 {
		key, _, err := e.open(ctx, creds, bc.Identity, "")
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		var ok bool
		if c.identity, ok = key.Ed25519(); !ok {
			return errors.New("the identity is not an ed25519 key")
		}
	}
	if c.signer == nil {
		return e.openSigner(ctx, c, bc)
	}
	return nil
}

func (e *enclave) openSigner(ctx context.Context, c *chain, bc *hostlink.BootChain) error {
	mac, err := hostlink.RecordKey(c.key)
	if err != nil {
		return err
	}
	store, lineage, err := e.storeOf(c.id, c.key, mac)
	if err != nil {
		return err
	}
	pub := c.key.PublicKey()
	p := e.c.Policy
	s, err := signer.New(ctx, signer.Config{
		ChainID: c.id,
		Key:     c.key,
		PubKey:  privval.PubKey{Type: string(pub.Type()), Bytes: pub.Bytes(), Uncompressed: pub.Uncompressed()},
		Verify:  pub.Verifier(),
		Store:   store,
		Shared:  e.c.Policy.Shared(),
		Heights: watermark.Heights{
			Burst: bc.HeightBurst, PerSecond: bc.HeightPerSecond, Max: p.MaxHeight, Floor: p.StateFloor[c.id],
		},
		AllowSignBytes: p.AllowSignBytes,
		AllowRawBytes:  p.AllowRawBytes,
		Nodes:          len(bc.Nodes),
		Observe:        func(ev signer.Event) { e.observe(c.id, ev) },
	})
	if err != nil {
		err = errors.Join(fmt.Errorf("cannot load the state: %w", err), store.Close())
		if errors.Is(err, hostlink.ErrForged) || errors.Is(err, hostlink.ErrReplay) {
			return &curedError{err, "put back the state that belongs to this wrapped key; if it is lost, " + e.c.Cures.LostState + ", has all steps"}
		}
		return err
	}
	c.signer, c.mac, c.start = s, mac, s.Last().Mark
	if lineage != nil {
		c.store = claims.StoreTag(lineage())
	}
	return nil
}

// storeOf returns where the mark of a chain is. What the policy has in a database is nowhere
// else: the host keeps a floor of it then, which alone signs nothing.
func (e *enclave) storeOf(chainID string, key *soft.Key, mac hostlink.Key) (s watermark.Store, lineage func() [16]byte, err error) {
	host := &hostlink.Store{
		Dial: func(ctx context.Context) (net.Conn, error) { return e.c.Dial(ctx, hostlink.StatePort) },
		ID:   stateID(chainID, key), Key: mac, Boot: e.boot,
	}
	if !e.c.Policy.Shared() {
		return host, nil, nil
	}
	host.ID = sharedmark.Config{ID: host.ID}.FloorID()
	c, err := e.shared(chainID, key, e.database, host)
	if err != nil {
		return nil, nil, err
	}
	store := sharedmark.New(c)
	return store, store.Lineage, nil
}

// serveNodes runs a session for each node, unless those of the last boot are the
// same and still run.
func (e *enclave) serveNodes(ctx context.Context, c *chain, bc *hostlink.BootChain) {
	if c.cancel != nil && slices.Equal(c.nodes, bc.Nodes) {
		return
	}
	c.stop()
	ctx, c.cancel = context.WithCancel(ctx)
	c.nodes, c.served, c.group = bc.Nodes, len(bc.Nodes), &sync.WaitGroup{}
	for _, n := range bc.Nodes {
		addr, err := session.ParseAddr(n.Addr)
		if err == nil && addr.Network != "unix" && c.identity == nil {
			err = errors.New("tcp and noise need an identity")
		}
		if err != nil {
			c.nodes = nil // the next boot may bring what is missing
			e.log.Error("cannot serve a node", "chain_id", c.id, "node", n.Name, "error", err)
			continue
		}
		s := &session.Session{
			Addr: addr, Identity: c.identity, Idle: bc.Idle,
			Dial: func(ctx context.Context) (net.Conn, error) { return e.dialNode(ctx, c.id, n.Name) },
			Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				return c.signer.Handle(ctx, n.Name, req)
			},
			Changed: func(st session.State, err error) {
				change := hostlink.NodeChange{ChainID: c.id, Node: n.Name, State: st.String()}
				if err != nil {
					change.Error = clip(err.Error())
				}
				e.lines.Put(hostlink.Line{Node: &change})
			},
		}
		c.group.Go(func() { s.Run(ctx) })
	}
}

func (e *enclave) dialNode(ctx context.Context, chainID, node string) (net.Conn, error) {
	conn, err := e.c.Dial(ctx, hostlink.NodePort)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// The host dials the node meanwhile. One that never answers would keep the
	// session from asking again.
	conn.SetDeadline(time.Now().Add(openTimeout))
	err = hostlink.OpenNode(conn, hostlink.NodeHello{ChainID: chainID, Node: node})
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// stop ends the sessions of a chain and waits for what is in flight.
func (c *chain) stop() {
	if c.cancel == nil {
		return
	}
	c.cancel()
	c.group.Wait()
	c.cancel = nil
}

// observe reports to the host what became of a request. The reply is not out yet, so
// nothing is encoded here. Times are coarse, and those of a repeat, which the host can
// have as often as it likes for the same bytes, are left out: they are worth more to
// whoever looks for the key than to an operator.
func (e *enclave) observe(chainID string, ev signer.Event) {
	out := hostlink.Event{
		ChainID: chainID, Node: ev.Node, Kind: ev.Request.Kind.String(),
		Height: ev.Mark.Height, Round: ev.Mark.Round, Step: uint8(ev.Mark.Step),
		Reason: ev.Reason, Repeated: ev.Repeated, Unknown: ev.Request.Unknown, Nil: ev.Request.IsNilVote(),
		Fault: string(signer.FaultOf(ev.Err)), StoreErrors: ev.StoreErrors,
	}
	if !ev.Repeated {
		out.Queue, out.Store, out.Sign, out.All = coarse(ev.Queue), coarse(ev.Store), coarse(ev.Sign), coarse(ev.All)
	}
	if ev.Err == nil && ev.Mark.Step == watermark.StepPrecommit && e.c.Policy.Shared() {
		out.SignBytes = ev.Mark.SignBytes
	}
	if ev.Err != nil {
		out.Error = clip(ev.Err.Error())
	}
	e.lines.Put(hostlink.Line{Event: &out})
}

func coarse(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
