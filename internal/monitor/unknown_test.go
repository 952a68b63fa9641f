package monitor

import (
	"log/slog"
	"strings"
	"testing"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
)

// Foreign fields are counted by node, and said once.
func TestUnknownFields(t *testing.T) {
	var log strings.Builder
	m := New(slog.New(slog.NewTextHandler(&log, nil)), "v1")
	c := m.AddChain("chain-1", "chain-1")
	c.AddNode("a", "unix:///a")
	for range 3 {
		c.Observe(signer.Event{Node: "a", Request: &privval.Request{Kind: privval.KindProposal, Unknown: 2}})
		c.Observe(signer.Event{Node: "nobody", Request: &privval.Request{Kind: privval.KindProposal, Unknown: 2}})
	}
	if got := series(t, m)[`privyseal_unknown_fields_total{chain_id="chain-1",node="a"}`]; got != "6" {
		t.Errorf("counted %q fields, not 6", got)
	}
	if n := strings.Count(log.String(), "ignored and not signed"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}
