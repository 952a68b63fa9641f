package monitor

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"privyseal/internal/signer"
)

// reasons are the labels of refusals. There are many, for each node of each chain, and
// nearly all of them stay at 0 for ever: they are numbers here, and become series when
// somebody looks.
var reasons = append(signer.Reasons(), otherLabel)

// refusals are the requests of one node that were refused for good, by reason.
type refusals []atomic.Uint64

func newRefusals() refusals { return make(refusals, len(reasons)) }

// count counts one. A reason that we do not know is one of an enclave.
func (r refusals) count(reason string) {
	at := slices.Index(reasons, reason)
	if at < 0 {
		at = len(reasons) - 1 // otherLabel
	}
	r[at].Add(1)
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
