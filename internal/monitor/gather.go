package monitor

import (
	"cmp"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"privyseal/internal/session"
)

// New returns a monitor without chains.
func New(log *slog.Logger, version string) *Monitor {
	m := &Monitor{log: log, metrics: newMetrics(version), version: version, started: time.Now()}
	m.metrics.registry.MustRegister(witnessCollector{m}, refusalCollector{m}, deviceCollector{m}, clusterCollector{m})
	return m
}

// Enclave adds an enclave, and returns what is called when it was found or launched,
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

// LogLost says where to read how many log lines nobody has read in time since the
// start. It is called once.
func (m *Monitor) LogLost(lines func() int64) {
	m.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "privyseal", Name: "log_lines_lost_total", Help: "Log lines dropped because nobody read them in time.",
	}, func() float64 { return float64(lines()) }))
}

// Gather returns all metrics as they are now. What follows from the mark is read
// here, and not kept up to date by who signs.
func (m *Monitor) Gather() ([]*dto.MetricFamily, error) {
	m.readMarks()
	all, err := m.metrics.registry.Gather()
	for _, family := range all {
		for _, one := range family.Metric {
			one.Label = withoutName(one.Label)
		}
	}
	return all, err
}

// withoutName leaves the name of a chain out that has none but its id: no series of
// such a chain has changed since there are names. The registry keeps labels, so
// they are not changed in place.
func withoutName(labels []*dto.LabelPair) []*dto.LabelPair {
	at := slices.IndexFunc(labels, func(l *dto.LabelPair) bool { return l.GetName() == "chain" && l.GetValue() == "" })
	if at < 0 {
		return labels
	}
	return slices.Delete(slices.Clone(labels), at, at+1)
}

// readMarks sets what follows from the marks of all chains.
func (m *Monitor) readMarks() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.chains {
		c.mu.Lock()
		if c.last != nil {
			m.metrics.markHeight.WithLabelValues(c.metrics.name, c.id).Set(float64(c.last().Mark.Height))
		}
		c.mu.Unlock()
	}
}

// Snapshot returns the state of everything now.
func (m *Monitor) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Snapshot{Version: m.version, PID: os.Getpid(), Started: m.started, Ready: len(m.chains) > 0, Listeners: slices.Clone(m.listeners), Clusters: m.clusters, Findings: m.findings}
	for _, c := range m.chains {
		cs := c.snapshot()
		s.Chains = append(s.Chains, cs)
		s.Ready = s.Ready && cs.Problem == "" && cs.Ready && cs.SomeDevice()
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
		Ready: c.last != nil, Problem: cmp.Or(c.problem, c.waits), Signed: c.signed, LastRefusal: c.lastRefusal,
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
	cs.Devices = c.deviceSnapshot()
	cs.Witness = c.witnessSnapshot()
	return cs
}

var refusedTotal = prometheus.NewDesc("privyseal_refused_total", "Requests refused for good.", ofChain("node", "reason"), nil)

// refusalCollector reads the refusals of all nodes.
type refusalCollector struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (r refusalCollector) Describe(out chan<- *prometheus.Desc) { out <- refusedTotal }

// Collect implements prometheus.Collector.
func (r refusalCollector) Collect(out chan<- prometheus.Metric) {
	r.m.mu.Lock()
	chains := slices.Clone(r.m.chains)
	r.m.mu.Unlock()
	for _, c := range chains {
		c.mu.Lock()
		nodes := slices.Clone(c.nodes)
		c.mu.Unlock()
		for _, n := range nodes {
			for i, reason := range reasons {
				out <- prometheus.MustNewConstMetric(refusedTotal, prometheus.CounterValue,
					float64(n.metrics.refused[i].Load()), c.metrics.name, c.id, n.name, reason)
			}
		}
	}
}
