package monitor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/privval"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// AddChain adds a chain that cannot sign yet. Its name is how the operator calls
// it, which is its id unless there are several of that id.
func (m *Monitor) AddChain(name, id string) *Chain {
	c := &Chain{log: m.log.With("chain_id", id), repeats: &m.repeats, opened: &m.opened, name: name, id: id, metrics: m.metrics.chain(name, id)}
	if name != id {
		c.log = c.log.With("chain", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chains = append(m.chains, c)
	return c
}

// AddNode adds a node that is not dialled yet, and returns what its session
// reports changes to.
func (c *Chain) AddNode(name, addr string) func(session.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &node{name: name, addr: addr, since: time.Now(), metrics: c.metrics.node(name)}
	c.nodes = append(c.nodes, n)
	return func(s session.State, err error) { c.changed(n, s, err) }
}

// RemoveNode forgets a node that is no longer in the config. Its session has ended.
func (c *Chain) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n.name == name })
	c.metrics.forget(name)
}

// Ready says that the chain's key and state are loaded. last returns its mark.
func (c *Chain) Ready(k Key, last func() watermark.Saved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key, c.last, c.problem, c.waits = k, last, "", ""
	c.metrics.setKey(k)
	c.metrics.loaded(last())
}

// Failed says why the chain cannot sign.
func (c *Chain) Failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.problem, c.waits = nil, err.Error(), ""
	c.metrics.ready.Set(0)
	if c.opened.Load() {
		c.sayFailed()
	}
}

// Opened says that the process goes on with those chains that can sign. Only then is
// it said why others cannot: a process that ends for it says so itself.
func (m *Monitor) Opened() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened.Store(true)
	for _, c := range m.chains {
		c.mu.Lock()
		if c.problem != "" {
			c.sayFailed()
		}
		c.mu.Unlock()
	}
}

// sayFailed writes why the chain cannot sign, and what to do. The caller holds mu.
func (c *Chain) sayFailed() {
	c.log.Error("this chain cannot sign", problemAttrs(c.problem)...)
}

// problemAttrs is the text of an error for the log, what to do beside it.
func problemAttrs(text string) []any {
	problem, next := cure.Split(text)
	attrs := []any{"error", problem}
	if next != "" {
		attrs = append(attrs, "next", next)
	}
	return attrs
}

func (c *Chain) changed(n *node, s session.State, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := n.state == session.Serving && s == session.Dialling
	if n.state != s {
		n.state, n.since = s, time.Now()
		n.metrics.setState(s)
	}
	switch {
	case lost:
		n.reconnects++
		n.metrics.reconnects.Inc()
		c.say(slog.LevelWarn, "lost the node", n.name, "", "error", err)
	case s == session.Serving:
		c.say(slog.LevelInfo, "serving the node", n.name, "", "addr", n.addr)
	case err != nil && err.Error() != n.lastError:
		// While a node is down every attempt fails alike; said once is enough.
		c.say(slog.LevelWarn, "no connection to the node, still dialling", n.name, "", "error", err)
	}
	switch {
	case err != nil:
		n.lastError = err.Error()
	case s == session.Serving:
		n.lastError = ""
	}
}

// Observe is called for every request; it is the Observe of a signer.Config.
func (c *Chain) Observe(e signer.Event) {
	c.Note(Outcome{
		Node: e.Node, Kind: e.Request.Kind.String(), Mark: e.Mark, Bytes: len(e.Request.Bytes), Reason: e.Reason, Err: e.Err,
		Fault: signer.FaultOf(e.Err), StoreErrors: e.StoreErrors, Repeated: e.Repeated, Nil: e.Request.IsNilVote(), Unknown: e.Request.Unknown,
		Queue: e.Queue, Store: e.Store, Sign: e.Sign, All: e.All,
	})
}

// Note is called for a request that was decided elsewhere, as in an enclave.
func (c *Chain) Note(o Outcome) {
	if o.Err != nil || o.StoreErrors != 0 {
		c.metrics.failed(o)
	}
	if o.Unknown > 0 {
		c.passedOver(o)
	}
	if o.Fault == signer.StoreFault {
		c.stopped(o.Err)
	}
	switch {
	case o.Reason != "":
		c.refused(o)
	case o.Fault == signer.HeldFault:
		c.say(slog.LevelInfo, "held back, closing the connection so that the node asks again", o.Node, string(o.Fault), "kind", o.Kind, "error", o.Err)
	case o.Err != nil:
		c.say(slog.LevelError, "cannot answer, closing the connection so that the node asks again", o.Node, string(o.Fault), append([]any{"kind", o.Kind}, problemAttrs(o.Err.Error())...)...)
	case o.Kind != privval.KindPubKey.String():
		c.signedOne(o)
	}
}

// stopped notes an error of the state for which there is something to do. Others pass by
// themselves. It stands until a mark was durable again, whatever fails meanwhile.
func (c *Chain) stopped(err error) {
	if err == nil {
		return
	}
	if _, next := cure.Split(err.Error()); next != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waits = err.Error()
	}
}

func (c *Chain) signedOne(e Outcome) {
	now := time.Now()
	c.metrics.signed(e, now)
	if e.Mark.IsZero() {
		c.say(slog.LevelInfo, "signed bytes of the node's choice", e.Node, "", "kind", e.Kind, "bytes", e.Bytes)
		return
	}
	if !e.Repeated {
		c.mu.Lock()
		c.signed, c.waits = Signed{Node: e.Node, Time: now}, ""
		c.mu.Unlock()
	}
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.Debug("signed", "node", e.Node, "kind", e.Kind,
			"height", e.Mark.Height, "round", e.Mark.Round, "step", uint8(e.Mark.Step), "repeated", e.Repeated,
			"took", e.All, "queue", e.Queue, "store", e.Store, "sign", e.Sign)
	}
}

func (c *Chain) refused(e Outcome) {
	c.mu.Lock()
	if at := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == e.Node }); at >= 0 {
		c.nodes[at].metrics.refused.count(e.Reason)
	}
	c.lastRefusal = &Refusal{Time: time.Now(), Node: e.Node, Reason: e.Reason, Text: because(e)}
	c.mu.Unlock()

	level := slog.LevelWarn
	if alarming(e.Reason) {
		level = slog.LevelError
	}
	if !c.admit(level, "refused to sign", e.Node, e.Reason) {
		return // nothing is worked out for a line that is not written
	}
	attrs := []any{"node", e.Node, "kind", e.Kind, "reason", e.Reason, "error", because(e)}
	if refused, ok := errors.AsType[*watermark.RefusedError](e.Err); ok && !refused.Request.IsZero() {
		attrs = append(attrs, "asked", describe(refused.Request), "mark", describe(refused.Last))
	}
	c.log.Log(context.Background(), level, "refused to sign", attrs...)
}

// because returns why something was refused, without the reason, which is beside
// it, and without the word that it was.
func because(e Outcome) string {
	reason := strings.TrimSuffix(strings.TrimSuffix(e.Reason, "_same_node"), "_other_node")
	return strings.TrimPrefix(e.Err.Error(), "refused: "+reason+": ")
}

// alarming reports whether a refusal says that a node contradicts itself or
// wants something that no healthy node asks for.
func alarming(reason string) bool {
	switch reason {
	case string(watermark.Conflict) + "_same_node", string(watermark.HeightLeap), string(watermark.DuplicateSigner):
		return true
	}
	return false
}

// describe returns a mark with the block that it is for, which shows an
// operator at a glance what contradicts what.
func describe(m watermark.Mark) string {
	req, err := privval.ParseSignBytes(m.SignBytes)
	switch {
	case err != nil:
		return m.String()
	case req.BlockID.IsNil():
		return m.String() + " nil"
	}
	const hex = "0123456789ABCDEF"
	var block []byte
	for _, b := range req.BlockID.Hash[:6] {
		block = append(block, hex[b>>4], hex[b&15])
	}
	return m.String() + " block " + string(block)
}
