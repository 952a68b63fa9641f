// Package monitor is what a running signer reports: log lines, metrics, health,
// and the status that `privyseal status` and `privyseal check` ask for over a
// socket in the home folder.
//
// It only listens. It is told of requests and connections after they were
// decided, never blocks who reports to it, and nothing that it says or fails to say
// changes what is signed. It never sees a secret.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/oplog"
	"privyseal/internal/privval"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// Monitor gathers what is told about all chains of a process. Its methods are
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
}

// New returns a monitor without chains.
func New(log *slog.Logger, version string) *Monitor {
	m := &Monitor{log: log, metrics: newMetrics(version), version: version, started: time.Now()}
	m.metrics.registry.MustRegister(witnessCollector{m}, refusalCollector{m})
	return m
}

// Chain gathers what is told about one chain.
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
	signed      Signed
	lastRefusal *Refusal
	nodes       []*node

	witness func() witness.Snapshot // nil: nobody watches the chain
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

// RemoveNode forgets a node that is in the config no more. Its session has ended.
func (c *Chain) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n.name == name })
	c.metrics.forget(name)
}

// Key is the key of a chain as an operator is to see it: base64, the hexadecimal
// address that the chain knows the validator by, the type, and who keeps it.
type Key struct{ Public, Address, Type, Provider string }

// Ready says that the chain's key and state are loaded. last returns its mark.
func (c *Chain) Ready(k Key, last func() watermark.Saved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key, c.last, c.problem = k, last, ""
	c.metrics.setKey(k)
	c.metrics.loaded(last())
}

// Failed says why the chain cannot sign.
func (c *Chain) Failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.problem = nil, err.Error()
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
	problem, next := cure.Split(c.problem)
	attrs := []any{"error", problem}
	if next != "" {
		attrs = append(attrs, "next", next)
	}
	c.log.Error("this chain cannot sign", attrs...)
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
		c.say(slog.LevelWarn, "no connection to the node, dialling on", n.name, "", "error", err)
	}
	switch {
	case err != nil:
		n.lastError = err.Error()
	case s == session.Serving:
		n.lastError = ""
	}
}

// Observe is told of every request; it is the Observe of a signer.Config.
func (c *Chain) Observe(e signer.Event) {
	c.Note(Outcome{
		Node: e.Node, Kind: e.Request.Kind.String(), Mark: e.Mark, Bytes: len(e.Request.Bytes), Reason: e.Reason, Err: e.Err,
		Fault: signer.FaultOf(e.Err), StoreErrors: e.StoreErrors, Repeated: e.Repeated, Nil: e.Request.IsNilVote(), Unknown: e.Request.Unknown,
		Queue: e.Queue, Store: e.Store, Sign: e.Sign, All: e.All,
	})
}

// Outcome is what became of one request of a node, whoever decided it; see
// [signer.Event]. Node, Kind and Reason become labels.
type Outcome struct {
	Node, Kind              string
	Mark                    watermark.Mark
	Bytes                   int // that were of the node's choice
	Reason                  string
	Err                     error
	Fault                   signer.Fault // where Err is no refusal
	StoreErrors             int
	Repeated                bool
	Nil                     bool // a vote for no block
	Unknown                 int  // fields of the request that were passed over
	Queue, Store, Sign, All time.Duration
}

// Note is told of a request that was decided elsewhere, as in an enclave.
func (c *Chain) Note(o Outcome) {
	if o.Err != nil || o.StoreErrors != 0 {
		c.metrics.failed(o)
	}
	if o.Unknown > 0 {
		c.passedOver(o)
	}
	switch {
	case o.Reason != "":
		c.refused(o)
	case o.Fault == signer.HeldFault:
		c.say(slog.LevelInfo, "held back, closing the connection so that the node asks again", o.Node, string(o.Fault), "kind", o.Kind, "error", o.Err)
	case o.Err != nil:
		c.say(slog.LevelError, "cannot answer, closing the connection so that the node asks again", o.Node, string(o.Fault), "kind", o.Kind, "error", o.Err)
	case o.Kind != privval.KindPubKey.String():
		c.signedOne(o)
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
		c.signed = Signed{Node: e.Node, Time: now}
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

// because returns why something was refused, without the reason, which stands beside
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

// describe returns a mark with the block that it is for, which tells an
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

// Snapshot is the state of a running signer, as `privyseal status --json`
// prints it.
type Snapshot struct {
	Version string          `json:"version"`
	PID     int             `json:"pid"`
	Started time.Time       `json:"started"`
	Ready   bool            `json:"ready"` // as /readyz tells it
	Chains  []ChainSnapshot `json:"chains"`

	Listeners []Listener `json:"listeners,omitempty"`
}

// ChainSnapshot is the state of one chain.
type ChainSnapshot struct {
	Name        string         `json:"name"` // the id, unless the config says otherwise
	ID          string         `json:"chain_id"`
	PubKey      string         `json:"public_key,omitempty"` // base64
	KeyType     string         `json:"key_type,omitempty"`
	Address     string         `json:"address,omitempty"` // hexadecimal
	Provider    string         `json:"provider,omitempty"`
	Ready       bool           `json:"ready"` // key and state are loaded
	Problem     string         `json:"problem,omitempty"`
	Height      int64          `json:"height"` // of the mark
	Round       int32          `json:"round"`
	Step        string         `json:"step"`
	MarkTime    time.Time      `json:"mark_time"`
	AgeSeconds  float64        `json:"mark_age_seconds"`
	Signed      Signed         `json:"last_signed"`
	LastRefusal *Refusal       `json:"last_refusal,omitempty"`
	Nodes       []NodeSnapshot `json:"nodes"`
	// Witness is absent where nobody watches the chain.
	Witness *witness.Snapshot `json:"witness,omitempty"`
}

// Signed says which node was served first with the current mark, and when.
type Signed struct {
	Node string    `json:"node,omitempty"`
	Time time.Time `json:"time,omitzero"`
}

// Refusal is the last request of a chain that was refused for good.
type Refusal struct {
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	Reason string    `json:"reason"`
	Text   string    `json:"text"`
}

// NodeSnapshot is the state of one node's connection.
type NodeSnapshot struct {
	Name       string    `json:"name"`
	Addr       string    `json:"addr"`
	State      string    `json:"state"` // dialling, parked or serving
	Since      time.Time `json:"since"`
	Reconnects int       `json:"reconnects"`
	LastError  string    `json:"last_error,omitempty"`
}

// Snapshot returns the state of everything now.
func (m *Monitor) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Snapshot{Version: m.version, PID: os.Getpid(), Started: m.started, Ready: len(m.chains) > 0, Listeners: slices.Clone(m.listeners)}
	for _, c := range m.chains {
		cs := c.snapshot()
		s.Chains = append(s.Chains, cs)
		s.Ready = s.Ready && cs.Ready
		for _, n := range cs.Nodes {
			s.Ready = s.Ready && n.State != session.Dialling.String()
		}
	}
	return s
}

func (c *Chain) snapshot() ChainSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	cs := ChainSnapshot{
		Name: c.name, ID: c.id, PubKey: c.key.Public, KeyType: c.key.Type, Address: c.key.Address, Provider: c.key.Provider,
		Ready: c.last != nil, Problem: c.problem, Signed: c.signed, LastRefusal: c.lastRefusal,
	}
	if c.last != nil {
		saved := c.last()
		cs.Height, cs.Round, cs.Step = saved.Mark.Height, saved.Mark.Round, saved.Mark.Step.String()
		cs.MarkTime, cs.AgeSeconds = saved.Time, time.Since(saved.Time).Seconds()
	}
	for _, n := range c.nodes {
		cs.Nodes = append(cs.Nodes, NodeSnapshot{
			Name: n.name, Addr: n.addr, State: n.state.String(), Since: n.since, Reconnects: n.reconnects, LastError: n.lastError,
		})
	}
	cs.Witness = c.witnessSnapshot()
	return cs
}
