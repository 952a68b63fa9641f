package monitor

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"privyseal/internal/witness"
)

// What is known by witnesses stands in metrics and in the snapshot, for those chains
// that have one.
func TestWitnessMetrics(t *testing.T) {
	m := New(slog.New(slog.DiscardHandler), "v1")
	a := m.AddChain("a", "a")
	m.AddChain("b", "b")
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	if text := scrape(); strings.Contains(text, "privyseal_witness") || strings.Contains(text, "duplicate_signer") && strings.Contains(text, "privyseal_duplicate_signer{") {
		t.Errorf("without a witness:\n%s", text)
	}
	s := witness.Snapshot{State: "open", Tip: 7, TipTime: time.Unix(1000, 0), Lies: 2, Sources: []witness.Source{
		{Addr: "http://w:1", Answered: true}, {Addr: "http://x:1", Problem: "gone"},
	}}
	a.Witness(func() witness.Snapshot { return s })
	for _, want := range []string{
		`privyseal_witness_tip_height{chain_id="a"} 7`,
		`privyseal_witness_tip_timestamp_seconds{chain_id="a"} 1000`,
		`privyseal_witness_state{chain_id="a",state="open"} 1`,
		`privyseal_witness_state{chain_id="a",state="quarantine"} 0`,
		`privyseal_witness_lies_total{chain_id="a"} 2`,
		`privyseal_witness_up{chain_id="a",witness="http://w:1"} 1`,
		`privyseal_witness_up{chain_id="a",witness="http://x:1"} 0`,
		`privyseal_duplicate_signer{chain_id="a"} 0`,
	} {
		if text := scrape(); !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	s.State = witness.Stopped
	if text := scrape(); !strings.Contains(text, `privyseal_duplicate_signer{chain_id="a"} 1`) {
		t.Errorf("stopped:\n%s", text)
	}
	chains := m.Snapshot().Chains
	if chains[0].Witness == nil || chains[0].Witness.Tip != 7 || chains[1].Witness != nil {
		t.Errorf("%+v", chains)
	}
}
