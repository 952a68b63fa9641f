package monitor

import (
	"strings"
	"testing"

	"privyseal/internal/watermark"
)

// A chain that was removed leaves no series and no line of the status, and takes
// nothing of another chain with it.
func TestRemoveChain(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	other := m.AddChain("second", "chain-1") // the same id, another name
	other.AddNode("a", "unix:///a")
	for _, ch := range []*Chain{c, other} {
		ch.Ready(testKey, func() watermark.Saved { return watermark.Saved{Mark: watermark.Mark{Height: 3}} })
		ch.Note(Outcome{Node: "a", Kind: "prevote", Mark: watermark.Mark{Height: 4}})
	}
	before := series(t, m)
	m.RemoveChain(c)
	after := series(t, m)
	for name := range before {
		_, stays := after[name]
		mine := strings.Contains(name, `chain_id="chain-1"`) && !strings.Contains(name, `chain="second"`)
		if stays == mine {
			t.Errorf("%s stays: %t", name, stays)
		}
	}
	if s := m.Snapshot(); len(s.Chains) != 1 || s.Chains[0].Name != "second" {
		t.Errorf("the status has %+v", s.Chains)
	}
}
