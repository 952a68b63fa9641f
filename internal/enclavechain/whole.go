package enclavechain

import (
	"fmt"

	"privyseal/internal/config"
	"privyseal/internal/hostlink"
)

// Whole returns what finds what is wrong with the chains of the enclaves in [TABLE.NAME]
// together, as [config.Kind] asks for.
func Whole(table string) func(c *config.Config, fail func(text string, place ...any)) {
	return func(c *config.Config, fail func(text string, place ...any)) {
		capacity(c, table, fail)
		oneID(c, table, fail)
	}
}

// capacity checks that no enclave has more to sign for than it takes: it would refuse
// all its chains, and only at the next boot.
func capacity(c *config.Config, table string, fail func(text string, place ...any)) {
	chains, nodes := map[string]int{}, map[string]int{} // by enclave
	for i, ch := range c.Chains {
		e := ch.Table
		if c.Kind(ch).Table != table {
			continue
		}
		if n := len(ch.Nodes); n > hostlink.MaxNodes {
			fail(fmt.Sprintf("chain %q: %d nodes; in an enclave a chain has at most %d", ch.Name, n, hostlink.MaxNodes), "chain", i, "node")
		}
		// Said where it becomes too much, and once.
		before := nodes[e]
		chains[e], nodes[e] = chains[e]+1, nodes[e]+len(ch.Nodes)
		if chains[e] == hostlink.MaxChains+1 {
			fail(fmt.Sprintf("chain %q: enclave %s signs for at most %d chains; give this one another enclave, on another instance", ch.Name, e, hostlink.MaxChains), "chain", i)
		}
		if before <= hostlink.MaxServed && nodes[e] > hostlink.MaxServed {
			fail(fmt.Sprintf("chain %q: enclave %s serves at most %d nodes of all its chains, and this makes %d", ch.Name, e, hostlink.MaxServed, nodes[e]), "chain", i, "node")
		}
	}
}

// oneID checks that no enclave has two chains of one id, by which it and its host name
// them.
func oneID(c *config.Config, table string, fail func(text string, place ...any)) {
	first := map[[2]string]config.Chain{}
	for i, ch := range c.Chains {
		if c.Kind(ch).Table != table {
			continue
		}
		key := [2]string{ch.ID, ch.Table}
		other, taken := first[key]
		if taken && other.Name != ch.Name && c.Path(other.Key) != c.Path(ch.Key) { // which is said elsewhere
			fail(fmt.Sprintf("chain %q: enclave %s signs for the id %s already, with the key of chain %q; this one needs another enclave", ch.Name, ch.Table, ch.ID, other.Name), "chain", i, table)
		}
		first[key] = ch
	}
}
