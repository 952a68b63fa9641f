package monitor

import (
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"privyseal/internal/privval"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// The names, labels and meanings of the metrics never change: operators'
// alerts rely on them. doc/reference/metrics.md is made from them.
//
// Every series of a counter exists from the moment at which its chain and node are
// known. One that is born with its first event shows no increase by it.
type metrics struct {
	registry *prometheus.Registry

	signedTotal    *prometheus.CounterVec
	repeatedTotal  *prometheus.CounterVec
	nilTotal       *prometheus.CounterVec
	errorsTotal    *prometheus.CounterVec
	duration       *prometheus.HistogramVec
	lastHeight     *prometheus.GaugeVec
	lastTime       *prometheus.GaugeVec
	markHeight     *prometheus.GaugeVec
	state          *prometheus.GaugeVec
	reconnected    *prometheus.CounterVec
	unknown        *prometheus.CounterVec
	ready          *prometheus.GaugeVec
	keyInfo        *prometheus.GaugeVec
	enclaveUp      *prometheus.GaugeVec
	enclaveRuns    *prometheus.CounterVec
	listenerErrors *prometheus.CounterVec
}

// durationBuckets spans a signature from memory, 50 µs, to the time at which a
// request is given up, 4 s.
var durationBuckets = []float64{
	0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4,
}

// ofChain are the labels of what belongs to a chain: its name in the config, left
// out where that is its id, and its id.
func ofChain(more ...string) []string { return append([]string{"chain", "chain_id"}, more...) }

func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:      prometheus.NewRegistry(),
		signedTotal:   counter("signed_total", "Signatures released, repeated ones and nil votes among them.", ofChain("kind")...),
		repeatedTotal: counter("repeated_total", "Signatures over a mark that was signed before: asked for again, or by another node.", ofChain("kind")...),
		nilTotal:      counter("nil_votes_total", "Signatures of votes for no block.", ofChain("kind")...),
		errorsTotal:   counter("errors_total", "Failures that may pass; the node asks again. store: attempts to write or load the mark; key: no signature, or a wrong one; queue: waited too long for other requests; held: a witness has yet to let it sign.", ofChain("kind")...),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "privyseal", Name: "sign_duration_seconds", Buckets: durationBuckets,
			Help: "Time of a signature by stage: queue (waiting for other requests), store (making the mark durable), sign, all. Of an enclave in whole milliseconds, and not of repeats.",
		}, ofChain("stage")),
		lastHeight:     gauge("last_signed_height", "Height of the last signature, after a start that of the mark; absent before the first.", ofChain()...),
		lastTime:       gauge("last_signed_timestamp_seconds", "Unix time of the last signature; after a start that of the mark.", ofChain("kind")...),
		markHeight:     gauge("mark_height", "Height of the durable mark.", ofChain()...),
		state:          gauge("node_state", "1 for the state that the connection to the node is in.", ofChain("node", "state")...),
		reconnected:    counter("node_reconnects_total", "Connections that ended after the node was served.", ofChain("node")...),
		unknown:        counter("unknown_fields_total", "Fields of requests that no CometBFT version has: ignored, not signed.", ofChain("node")...),
		ready:          gauge("chain_ready", "1 if key and state of the chain are loaded.", ofChain()...),
		keyInfo:        gauge("key_info", "1, with the key of the chain.", ofChain("provider", "type", "address", "public_key")...),
		enclaveUp:      gauge("enclave_up", "1 if the enclave runs.", "enclave"),
		enclaveRuns:    counter("enclave_starts_total", "How often the enclave was launched or found running.", "enclave"),
		listenerErrors: counter("listener_errors_total", "Failures of the metrics and status listeners; signing goes on.", "listener"),
	}
	build := gauge("build_info", "1, with what was built.", "version", "go_version")
	build.WithLabelValues(version, runtime.Version()).Set(1)
	for _, l := range []string{MetricsListener, StatusListener} {
		m.listenerErrors.WithLabelValues(l)
	}
	m.registry.MustRegister(m.signedTotal, m.repeatedTotal, m.nilTotal, m.errorsTotal, m.duration,
		m.lastHeight, m.lastTime, m.markHeight, m.state, m.reconnected, m.unknown, m.ready, m.keyInfo, m.enclaveUp, m.enclaveRuns,
		m.listenerErrors, build, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// chainMetrics are the metrics of one chain, looked up once: a node waits for its
// signature while they are counted.
type chainMetrics struct {
	all        *metrics
	name, id   string
	ready      prometheus.Gauge
	lastHeight func() prometheus.Gauge // makes it, the first time
	kinds      map[string]*kindMetrics
	faults     map[signer.Fault]prometheus.Counter
	keyLabels  []string // of the present key

	queue, store prometheus.Observer
	sign, total  prometheus.Observer
}

// kindMetrics are those of one kind of message.
type kindMetrics struct {
	signed        prometheus.Counter
	repeated, nil prometheus.Counter      // nil where the kind knows none
	lastTime      func() prometheus.Gauge // makes it, the first time
}

func (m *metrics) chain(name, id string) *chainMetrics {
	if name == id {
		name = ""
	}
	c := &chainMetrics{
		all: m, name: name, id: id,
		ready:      m.ready.WithLabelValues(name, id),
		lastHeight: sync.OnceValue(func() prometheus.Gauge { return m.lastHeight.WithLabelValues(name, id) }),
		kinds:      map[string]*kindMetrics{},
		faults:     map[signer.Fault]prometheus.Counter{},
		queue:      m.duration.WithLabelValues(name, id, "queue"),
		store:      m.duration.WithLabelValues(name, id, "store"),
		sign:       m.duration.WithLabelValues(name, id, "sign"),
		total:      m.duration.WithLabelValues(name, id, "all"),
	}
	for _, k := range []privval.Kind{privval.KindProposal, privval.KindPrevote, privval.KindPrecommit, privval.KindSignBytes, privval.KindRawBytes} {
		c.kinds[k.String()] = m.kind(name, id, k)
	}
	for _, f := range append(signer.Faults(), otherLabel) {
		c.faults[f] = m.errorsTotal.WithLabelValues(name, id, string(f))
	}
	return c
}

func (m *metrics) kind(name, id string, k privval.Kind) *kindMetrics {
	kind := k.String()
	km := &kindMetrics{
		signed:   m.signedTotal.WithLabelValues(name, id, kind),
		lastTime: sync.OnceValue(func() prometheus.Gauge { return m.lastTime.WithLabelValues(name, id, kind) }),
	}
	switch k {
	case privval.KindPrevote, privval.KindPrecommit:
		km.nil = m.nilTotal.WithLabelValues(name, id, kind)
		fallthrough
	case privval.KindProposal:
		km.repeated = m.repeatedTotal.WithLabelValues(name, id, kind)
	}
	return km
}

// loaded reports the mark that the chain was loaded with. Its bytes were signed,
// or were about to be, when it was written; a mark without bytes is a floor, and
// says nothing of when anything was signed.
func (c *chainMetrics) loaded(s watermark.Saved) {
	c.ready.Set(1)
	k := c.kinds[s.Mark.Step.String()]
	if k == nil || len(s.Mark.SignBytes) == 0 {
		return
	}
	c.lastHeight().Set(float64(s.Mark.Height))
	k.lastTime().Set(unixSeconds(s.Time))
}

func (c *chainMetrics) signed(e Outcome, now time.Time) {
	if k := c.kinds[e.Kind]; k != nil {
		k.signed.Inc()
		k.lastTime().Set(unixSeconds(now))
		if e.Repeated && k.repeated != nil {
			k.repeated.Inc()
		}
		if e.Nil && k.nil != nil {
			k.nil.Inc()
		}
	}
	// An enclave does not say how long a repeat took.
	if !e.Repeated || e.All > 0 {
		c.queue.Observe(e.Queue.Seconds())
		c.store.Observe(e.Store.Seconds())
		c.sign.Observe(e.Sign.Seconds())
		c.total.Observe(e.All.Seconds())
	}
	if !e.Mark.IsZero() {
		c.lastHeight().Set(float64(e.Mark.Height))
	}
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// failed counts what kept a request from its answer, and each failure of the store
// on the way to one. An enclave's numbers are not believed without a bound.
func (c *chainMetrics) failed(e Outcome) {
	c.faults[signer.StoreFault].Add(float64(min(max(0, e.StoreErrors), 1000)))
	switch {
	case e.Err == nil || e.Reason != "" || e.Fault == signer.StoreFault && e.StoreErrors > 0:
	case c.faults[e.Fault] != nil:
		c.faults[e.Fault].Inc()
	default:
		c.faults[otherLabel].Inc()
	}
}

// maxKeyLabel is how long a public key may be as a label, in bytes: those of all
// types but ML-DSA, which have 2.6 kB. Its address names a key as well.
const maxKeyLabel = 100

// setKey sets which key the chain has. There is one at a time.
func (c *chainMetrics) setKey(k Key) {
	if len(k.Public) > maxKeyLabel {
		k.Public = ""
	}
	if c.keyLabels != nil {
		c.all.keyInfo.DeleteLabelValues(c.keyLabels...)
	}
	c.keyLabels = []string{c.name, c.id, k.Provider, k.Type, k.Address, k.Public}
	c.all.keyInfo.WithLabelValues(c.keyLabels...).Set(1)
}

// nodeMetrics are the metrics of one node of a chain.
type nodeMetrics struct {
	refused    refusals
	reconnects prometheus.Counter
	unknown    prometheus.Counter
	state      [3]prometheus.Gauge // by session.State
}

func (c *chainMetrics) node(name string) *nodeMetrics {
	n := &nodeMetrics{refused: newRefusals(), reconnects: c.all.reconnected.WithLabelValues(c.name, c.id, name)}
	n.unknown = c.all.unknown.WithLabelValues(c.name, c.id, name)
	for s := range n.state {
		n.state[s] = c.all.state.WithLabelValues(c.name, c.id, name, session.State(s).String())
	}
	n.setState(session.Dialling)
	return n
}

func (n *nodeMetrics) setState(now session.State) {
	for s := range n.state {
		n.state[s].Set(0)
	}
	n.state[now].Set(1)
}

// forget removes the series of a node that is no longer in the config.
func (c *chainMetrics) forget(node string) {
	labels := prometheus.Labels{"chain": c.name, "chain_id": c.id, "node": node}
	c.all.reconnected.DeletePartialMatch(labels)
	c.all.unknown.DeletePartialMatch(labels)
	c.all.state.DeletePartialMatch(labels)
}
