package monitor

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"privyseal/internal/session"
)

// The names, labels and meanings of the metrics never change: operators'
// alerts rely on them. doc/operations.md lists them.
type metrics struct {
	registry *prometheus.Registry

	signedTotal  *prometheus.CounterVec
	refusedTotal *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	lastHeight   *prometheus.GaugeVec
	lastTime     *prometheus.GaugeVec
	markHeight   *prometheus.GaugeVec
	state        *prometheus.GaugeVec
	reconnected  *prometheus.CounterVec
	ready        *prometheus.GaugeVec
	enclaveUp    *prometheus.GaugeVec
	enclaveRuns  *prometheus.CounterVec
}

// durationBuckets spans a signature from memory, 50 µs, to the time at which a
// request is given up, 4 s.
var durationBuckets = []float64{
	0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4,
}

func newMetrics(version string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "privyseal", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		signedTotal:  counter("signed_total", "Signatures released.", "chain_id", "kind"),
		refusedTotal: counter("refused_total", "Requests refused for good.", "chain_id", "node", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "privyseal", Name: "sign_duration_seconds", Buckets: durationBuckets,
			Help: "Time of a signature by stage: queue (waiting for other requests), store (making the mark durable), sign, all.",
		}, []string{"chain_id", "stage"}),
		lastHeight:  gauge("last_signed_height", "Height of the last signature released.", "chain_id"),
		lastTime:    gauge("last_signed_timestamp_seconds", "Unix time of the last signature released.", "chain_id", "kind"),
		markHeight:  gauge("mark_height", "Height of the durable mark.", "chain_id"),
		state:       gauge("node_state", "1 for the state that the connection to the node is in.", "chain_id", "node", "state"),
		reconnected: counter("node_reconnects_total", "Connections that ended after the node was served.", "chain_id", "node"),
		ready:       gauge("chain_ready", "1 if key and state of the chain are loaded.", "chain_id"),
		enclaveUp:   gauge("enclave_up", "1 if the enclave runs.", "enclave"),
		enclaveRuns: counter("enclave_starts_total", "How often the enclave was launched or found running.", "enclave"),
	}
	build := gauge("build_info", "1, with what was built.", "version", "go_version")
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.signedTotal, m.refusedTotal, m.duration, m.lastHeight, m.lastTime, m.markHeight,
		m.state, m.reconnected, m.ready, m.enclaveUp, m.enclaveRuns, build, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// chainMetrics are the metrics of one chain, looked up once.
type chainMetrics struct {
	all               *metrics
	id                string
	ready, markHeight prometheus.Gauge
	lastHeight        prometheus.Gauge
	queue, store      prometheus.Observer
	sign, total       prometheus.Observer
}

func (m *metrics) chain(id string) *chainMetrics {
	return &chainMetrics{
		all: m, id: id,
		ready:      m.ready.WithLabelValues(id),
		markHeight: m.markHeight.WithLabelValues(id),
		lastHeight: m.lastHeight.WithLabelValues(id),
		queue:      m.duration.WithLabelValues(id, "queue"),
		store:      m.duration.WithLabelValues(id, "store"),
		sign:       m.duration.WithLabelValues(id, "sign"),
		total:      m.duration.WithLabelValues(id, "all"),
	}
}

func (c *chainMetrics) signed(e Outcome, now time.Time) {
	c.all.signedTotal.WithLabelValues(c.id, e.Kind).Inc()
	c.all.lastTime.WithLabelValues(c.id, e.Kind).Set(float64(now.UnixNano()) / 1e9)
	c.queue.Observe(e.Queue.Seconds())
	c.store.Observe(e.Store.Seconds())
	c.sign.Observe(e.Sign.Seconds())
	c.total.Observe(e.All.Seconds())
	if !e.Mark.IsZero() {
		c.lastHeight.Set(float64(e.Mark.Height))
		c.markHeight.Set(float64(e.Mark.Height))
	}
}

// Enclave adds an enclave, and returns what is told when it was found or launched,
// and when it is gone.
func (m *Monitor) Enclave(name string) func(up bool) {
	up, starts := m.metrics.enclaveUp.WithLabelValues(name), m.metrics.enclaveRuns.WithLabelValues(name)
	return func(is bool) {
		up.Set(0)
		if is {
			up.Set(1)
			starts.Inc()
		}
	}
}

func (c *chainMetrics) refused(node, reason string) {
	c.all.refusedTotal.WithLabelValues(c.id, node, reason).Inc()
}

func (c *chainMetrics) reconnects(node string) {
	c.all.reconnected.WithLabelValues(c.id, node).Inc()
}

func (c *chainMetrics) nodeState(node string, now session.State) {
	for _, s := range []session.State{session.Dialling, session.Parked, session.Serving} {
		v := 0.0
		if s == now {
			v = 1
		}
		c.all.state.WithLabelValues(c.id, node, s.String()).Set(v)
	}
}
