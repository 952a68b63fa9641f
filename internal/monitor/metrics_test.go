package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

var testKey = Key{Public: "cHVibGlj", Address: "00AA", Type: "ed25519", Provider: "soft"}

// newTestChain returns a chain with one node, which can sign.
func newTestChain(name, id string, last watermark.Saved) (*Monitor, *Chain) {
	m := New(slog.New(slog.DiscardHandler), "v1")
	c := m.AddChain(name, id)
	c.AddNode("a", "unix:///a")
	c.Ready(testKey, func() watermark.Saved { return last })
	return m, c
}

// series returns what is served of privyseal, by name and labels.
func series(t *testing.T, m *Monitor) map[string]string {
	t.Helper()
	all := map[string]string{}
	_, text := get(t, m.Handler(), "/metrics")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "privyseal_") && !strings.Contains(line, "_bucket{") {
			at := strings.LastIndexByte(line, ' ')
			all[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return all
}

// The names and labels are what operators' alerts are written against. All that
// counts exists before there is anything to count.
func TestMetricNames(t *testing.T) {
	m, _ := newTestChain("chain-1", "chain-1", watermark.Saved{})
	m.Enclave("main")
	m.LogLost(func() int64 { return 0 })
	var got []string
	for name := range series(t, m) {
		got = append(got, regexp.MustCompile(`go1[^"]*`).ReplaceAllString(name, "N"))
	}
	want := []string{
		`privyseal_build_info{go_version="N",version="v1"}`,
		`privyseal_chain_ready{chain_id="chain-1"}`,
		`privyseal_enclave_starts_total{enclave="main"}`,
		`privyseal_enclave_up{enclave="main"}`,
		`privyseal_key_info{address="00AA",chain_id="chain-1",provider="soft",public_key="cHVibGlj",type="ed25519"}`,
		`privyseal_listener_errors_total{listener="metrics"}`,
		`privyseal_listener_errors_total{listener="status"}`,
		`privyseal_log_lines_lost_total`,
		`privyseal_mark_height{chain_id="chain-1"}`,
		`privyseal_nil_votes_total{chain_id="chain-1",kind="precommit"}`,
		`privyseal_nil_votes_total{chain_id="chain-1",kind="prevote"}`,
		`privyseal_node_reconnects_total{chain_id="chain-1",node="a"}`,
		`privyseal_unknown_fields_total{chain_id="chain-1",node="a"}`,
	}
	for _, s := range []string{"dialling", "parked", "serving"} {
		want = append(want, fmt.Sprintf(`privyseal_node_state{chain_id="chain-1",node="a",state=%q}`, s))
	}
	for _, r := range append(signer.Reasons(), "other") {
		want = append(want, fmt.Sprintf(`privyseal_refused_total{chain_id="chain-1",node="a",reason=%q}`, r))
	}
	for _, f := range append(signer.Faults(), "other") {
		want = append(want, fmt.Sprintf(`privyseal_errors_total{chain_id="chain-1",kind=%q}`, f))
	}
	for _, stage := range []string{"all", "queue", "sign", "store"} {
		want = append(want, fmt.Sprintf(`privyseal_sign_duration_seconds_count{chain_id="chain-1",stage=%q}`, stage),
			fmt.Sprintf(`privyseal_sign_duration_seconds_sum{chain_id="chain-1",stage=%q}`, stage))
	}
	for _, kind := range []string{"proposal", "prevote", "precommit"} {
		want = append(want, fmt.Sprintf(`privyseal_repeated_total{chain_id="chain-1",kind=%q}`, kind))
	}
	for _, kind := range []string{"proposal", "prevote", "precommit", "sign_bytes", "raw_bytes"} {
		want = append(want, fmt.Sprintf(`privyseal_signed_total{chain_id="chain-1",kind=%q}`, kind))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// Nothing that happens makes a series that was not there, but those of the last
// signature, which have no value before it.
func TestNoSeriesIsBornLate(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	before := series(t, m)
	for _, reason := range append(signer.Reasons(), "a_reason_of_tomorrow") {
		c.Note(Outcome{Node: "a", Kind: "prevote", Reason: reason, Err: errors.New("refused")})
		c.Note(Outcome{Node: "nobody", Kind: "prevote", Reason: reason, Err: errors.New("refused")})
	}
	for _, fault := range append(signer.Faults(), "tomorrow's", "") {
		c.Note(Outcome{Node: "a", Kind: "prevote", Fault: fault, Err: errors.New("failed")})
	}
	for _, kind := range []string{"proposal", "prevote", "precommit", "sign_bytes", "raw_bytes", "tomorrow's"} {
		c.Note(Outcome{Node: "a", Kind: kind, Mark: watermark.Mark{Height: 1}, Repeated: true, Nil: true})
	}
	m.ListenerFailed(MetricsListener)
	after := series(t, m)
	for name := range after {
		if _, was := before[name]; !was && !strings.HasPrefix(name, "privyseal_last_signed_") {
			t.Errorf("%s was born late", name)
		}
	}
	for name := range before {
		if (strings.Contains(name, "refused_total") || strings.Contains(name, "errors_total")) && after[name] == "0" && !strings.Contains(name, "status") {
			t.Errorf("%s counted nothing", name)
		}
	}
}

// What is counted where.
func TestWhatIsCounted(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Outcome
		want map[string]string // what is no longer 0
	}{
		{"a vote for a block", Outcome{Kind: "prevote", Mark: watermark.Mark{Height: 5}}, map[string]string{`signed_total prevote`: "1"}},
		{"a nil vote", Outcome{Kind: "precommit", Mark: watermark.Mark{Height: 5}, Nil: true}, map[string]string{`signed_total precommit`: "1", `nil_votes_total precommit`: "1"}},
		{"once more", Outcome{Kind: "proposal", Mark: watermark.Mark{Height: 5}, Repeated: true}, map[string]string{`signed_total proposal`: "1", `repeated_total proposal`: "1"}},
		{"bytes of the node's choice", Outcome{Kind: "raw_bytes"}, map[string]string{`signed_total raw_bytes`: "1"}},
		{"the public key", Outcome{Kind: "pubkey"}, map[string]string{}},
		{"a store that failed twice, and then did it", Outcome{Kind: "prevote", Mark: watermark.Mark{Height: 5}, StoreErrors: 2},
			map[string]string{`signed_total prevote`: "1", `errors_total store`: "2"}},
		{"a store that failed to the end", Outcome{Kind: "prevote", Err: errors.New("EIO"), Fault: signer.StoreFault, StoreErrors: 40}, map[string]string{`errors_total store`: "40"}},
		{"an old enclave's store", Outcome{Kind: "prevote", Err: errors.New("EIO"), Fault: signer.StoreFault}, map[string]string{`errors_total store`: "1"}},
		{"a key", Outcome{Kind: "prevote", Err: errors.New("no device"), Fault: signer.KeyFault}, map[string]string{`errors_total key`: "1"}},
		{"a queue", Outcome{Kind: "prevote", Err: errors.New("late"), Fault: signer.QueueFault}, map[string]string{`errors_total queue`: "1"}},
		{"something else", Outcome{Kind: "prevote", Err: errors.New("late")}, map[string]string{`errors_total other`: "1"}},
		{"a refusal", Outcome{Node: "a", Kind: "prevote", Err: errors.New("no"), Reason: "height_gap"}, map[string]string{`refused_total height_gap`: "1"}},
		{"a hostile number", Outcome{Kind: "prevote", Mark: watermark.Mark{Height: 5}, StoreErrors: -1}, map[string]string{`signed_total prevote`: "1"}},
		{"a hostile reason", Outcome{Node: "a", Kind: "prevote", Err: errors.New("no"), Reason: "zzz"}, map[string]string{`refused_total other`: "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
			c.Note(tt.o)
			got := map[string]string{}
			for name, value := range series(t, m) {
				if parts := regexp.MustCompile(`^privyseal_(\w+_total)\{.*(?:kind|reason)="(\w+)"\}$`).FindStringSubmatch(name); parts != nil && value != "0" {
					got[parts[1]+" "+parts[2]] = value
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// After a start the age of the last signature is that of the durable mark, and is
// not known where the mark does not say when anything was signed.
func TestLastSignature(t *testing.T) {
	at := time.Unix(1_800_000_000, 500_000_000)
	vote := markOf(prevote(41, 0xAA))
	for _, tt := range []struct {
		name string
		last watermark.Saved
		want map[string]string
	}{
		{"a fresh state", watermark.Saved{Time: at}, map[string]string{}},
		{"a floor", watermark.Saved{Mark: watermark.Floor(41), Time: at}, map[string]string{}},
		{"a mark of another signer, without its bytes", watermark.Saved{Mark: watermark.Mark{Height: 41, Step: watermark.StepPrevote}, Time: at}, map[string]string{}},
		{"a vote", watermark.Saved{Mark: vote, Time: at}, map[string]string{
			`privyseal_last_signed_height{chain_id="chain-1"}`:                           "41",
			`privyseal_last_signed_timestamp_seconds{chain_id="chain-1",kind="prevote"}`: "1.8000000005e+09",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := newTestChain("chain-1", "chain-1", tt.last)
			got := series(t, m)
			maps.DeleteFunc(got, func(name, _ string) bool { return !strings.Contains(name, "last_signed") })
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The mark is as high as it is when somebody looks, and unknown while the chain
// cannot sign.
func TestMarkHeight(t *testing.T) {
	const name = `privyseal_mark_height{chain_id="chain-1"}`
	m := New(slog.New(slog.DiscardHandler), "v1")
	c := m.AddChain("chain-1", "chain-1")
	if height, is := series(t, m)[name]; is {
		t.Errorf("without a state the mark is at %s", height)
	}
	last := watermark.Saved{Mark: watermark.Floor(6)}
	c.Ready(testKey, func() watermark.Saved { return last })
	for _, want := range []int64{6, 7} {
		last.Mark.Height = want
		if got := series(t, m)[name]; got != fmt.Sprint(want) {
			t.Errorf("the mark is at %s, want %d", got, want)
		}
	}
}

// Two keys for one chain id: a name of its own is a label, on every series of it.
func TestNamedChain(t *testing.T) {
	m, c := newTestChain("chain-1-next", "chain-1", watermark.Saved{})
	d := m.AddChain("chain-1", "chain-1")
	d.AddNode("a", "unix:///a")
	d.Ready(testKey, func() watermark.Saved { return watermark.Saved{} })
	for range 3 {
		c.Observe(signedEvent(7))
	}
	d.Observe(signedEvent(7))
	all := series(t, m)
	for name, want := range map[string]string{
		`privyseal_signed_total{chain="chain-1-next",chain_id="chain-1",kind="prevote"}`: "3",
		`privyseal_signed_total{chain_id="chain-1",kind="prevote"}`:                      "1",
	} {
		if all[name] != want {
			t.Errorf("%s is %s, want %s", name, all[name], want)
		}
	}
	named := 0
	for name := range all {
		switch {
		case strings.Contains(name, `chain="chain-1-next"`):
			named++
		case strings.Contains(name, "chain_id="):
			named--
		}
	}
	if named != 0 {
		t.Errorf("%d series more or less have a name than have none", named)
	}
}

// A node that is taken out of the config leaves nothing that could alert.
func TestRemovedNode(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	c.AddNode("b", "unix:///b")(session.Parked, nil)
	c.RemoveNode("a")
	for name := range series(t, m) {
		if strings.Contains(name, `node="a"`) {
			t.Errorf("%s is still there", name)
		}
	}
	if nodes := m.Snapshot().Chains[0].Nodes; len(nodes) != 1 || nodes[0].Name != "b" || !m.Snapshot().Ready {
		t.Errorf("snapshot %+v", m.Snapshot())
	}
}

// A key that came in place of another one is the only one; a long one goes by its
// address.
func TestKeyInfo(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	c.Ready(Key{Public: strings.Repeat("A", 2604), Address: "00BB", Type: "ml-dsa-65", Provider: "soft"}, func() watermark.Saved { return watermark.Saved{} })
	got := series(t, m)
	maps.DeleteFunc(got, func(name, _ string) bool { return !strings.Contains(name, "key_info") })
	want := map[string]string{`privyseal_key_info{address="00BB",chain_id="chain-1",provider="soft",public_key="",type="ml-dsa-65"}`: "1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Scrapes and signatures at once, for the race detector.
func TestScrapeWhileSigning(t *testing.T) {
	m, c := newTestChain("chain-1", "chain-1", watermark.Saved{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for h := range int64(2000) {
			c.Observe(signedEvent(h + 1))
		}
	}()
	for range 20 {
		series(t, m)
	}
	<-done
	if got := series(t, m)[`privyseal_signed_total{chain_id="chain-1",kind="prevote"}`]; got != "2000" {
		t.Errorf("counted %s", got)
	}
}
