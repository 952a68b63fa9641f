package monitor

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// RemoveChain forgets a chain that is no longer in the config, with its series. Its
// sessions have ended.
func (m *Monitor) RemoveChain(c *Chain) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chains = slices.DeleteFunc(m.chains, func(other *Chain) bool { return other == c })
	labels := prometheus.Labels{"chain": c.metrics.name, "chain_id": c.id}
	for _, v := range m.metrics.ofChains() {
		v.DeletePartialMatch(labels)
	}
}

// ofChains are the metrics with a series for each chain.
func (m *metrics) ofChains() []interface {
	DeletePartialMatch(prometheus.Labels) int
} {
	return []interface {
		DeletePartialMatch(prometheus.Labels) int
	}{
		m.signedTotal, m.repeatedTotal, m.nilTotal, m.errorsTotal, m.duration, m.lastHeight, m.lastTime,
		m.markHeight, m.state, m.reconnected, m.unknown, m.ready, m.keyInfo,
	}
}
