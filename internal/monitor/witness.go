package monitor

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"privyseal/internal/witness"
)

// Witness sets what is known of the chain by its witnesses. snapshot is called for
// each status and each scrape; nil: nobody watches the chain any more.
func (c *Chain) Witness(snapshot func() witness.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.witness = snapshot
}

// witnessSnapshot returns nil for a chain without a witness. The caller holds mu.
func (c *Chain) witnessSnapshot() *witness.Snapshot {
	if c.witness == nil {
		return nil
	}
	s := c.witness()
	return &s
}

func witnessDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("privyseal_witness_"+name, help, ofChain(labels...), nil)
}

var (
	witnessTip     = witnessDesc("tip_height", "Newest height that a witness has shown; 0 is unknown.")
	witnessTipTime = witnessDesc("tip_timestamp_seconds", "Unix time at which that height was new.")
	witnessState   = witnessDesc("state", "1 for the state of the watch: waiting, quarantine, open or stopped.", "state")
	witnessLies    = witnessDesc("lies_total", "Claims of witnesses that were not true.")
	witnessUp      = witnessDesc("up", "1 if the witness answers.", "witness")
	duplicate      = prometheus.NewDesc("privyseal_duplicate_signer", "1 if a witness has shown a signature of this key that this signer did not make.", ofChain(), nil)
)

// witnessCollector reads the snapshots of all chains.
type witnessCollector struct{ m *Monitor }

// Describe implements prometheus.Collector.
func (w witnessCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{witnessTip, witnessTipTime, witnessState, witnessLies, witnessUp, duplicate} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (w witnessCollector) Collect(out chan<- prometheus.Metric) {
	w.m.mu.Lock()
	chains := slices.Clone(w.m.chains)
	w.m.mu.Unlock()
	for _, c := range chains {
		c.mu.Lock()
		s := c.witnessSnapshot()
		c.mu.Unlock()
		if s != nil {
			c.collectWitness(s, out)
		}
	}
}

func (c *Chain) collectWitness(s *witness.Snapshot, out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		labels = append([]string{c.metrics.name, c.metrics.id}, labels...)
		out <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	send(witnessTip, prometheus.GaugeValue, float64(s.Tip))
	if !s.TipTime.IsZero() {
		send(witnessTipTime, prometheus.GaugeValue, float64(s.TipTime.UnixNano())/float64(time.Second))
	}
	for _, state := range witness.States() {
		send(witnessState, prometheus.GaugeValue, oneIf(s.State == state), state)
	}
	send(witnessLies, prometheus.CounterValue, float64(s.Lies))
	for _, src := range s.Sources {
		send(witnessUp, prometheus.GaugeValue, oneIf(src.Problem == "" && src.Answered), src.Addr)
	}
	send(duplicate, prometheus.GaugeValue, oneIf(s.State == witness.Stopped))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
