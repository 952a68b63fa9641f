package monitor

import "slices"

// passedOver counts the fields of a request that no version of the protocol has.
// They are of no account for what is signed; that a node sends some is said once.
func (c *Chain) passedOver(o Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == o.Node })
	if at < 0 {
		return
	}
	n := c.nodes[at]
	n.metrics.unknown.Add(float64(min(o.Unknown, maxUnknown)))
	if !n.saidUnknown {
		n.saidUnknown = true
		c.log.Info("the node sends fields that no CometBFT version has; they are ignored and not signed", "node", n.name, "kind", o.Kind, "fields", o.Unknown)
	}
}

// maxUnknown bounds what an enclave can add for one request: a request has no room
// for more.
const maxUnknown = 1 << 20
