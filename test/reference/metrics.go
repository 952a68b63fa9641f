package reference

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"privyseal/internal/monitor"
	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// families returns every metric that a signer can have, by way of one that has it.
func families() ([]*dto.MetricFamily, error) {
	m := monitor.New(slog.New(slog.DiscardHandler), "v1")
	c := m.AddChain("name", "id")
	c.AddNode("node", "unix:///node")
	mark := watermark.Saved{Mark: watermark.Mark{Height: 1, Step: watermark.StepPrevote, SignBytes: []byte{1}}, Time: time.Unix(1, 0)}
	c.Ready(monitor.Key{Public: "k", Address: "a", Type: "t", Provider: "p"}, func() watermark.Saved { return mark })
	c.Witness(func() witness.Snapshot {
		return witness.Snapshot{Tip: 1, TipTime: time.Unix(1, 0), Sources: []witness.Source{{Addr: "http://w"}}}
	})
	c.Devices(func() []monitor.Device {
		return []monitor.Device{{Address: "http://d", Since: time.Unix(1, 0), LogSize: 62, Audited: true}}
	})
	for k := privval.KindProposal; k <= privval.KindRawBytes; k++ {
		c.Note(monitor.Outcome{Node: "node", Kind: k.String()})
	}
	m.Clusters([]monitor.Cluster{{Store: "etcd", Name: "main", Looked: time.Unix(1, 0), Expires: time.Unix(1, 0), Voters: 3, Alarms: []string{}, Members: []monitor.ClusterMember{
		{Address: "https://m", Version: "3", Quota: 1, Expires: time.Unix(1, 0)},
	}}})
	m.Findings([]monitor.Findings{{Store: "etcd", Name: "main"}})
	m.Enclave("main")
	m.LogLost(func() int64 { return 0 })
	return m.Gather()
}

// closed are the labels whose values are a list that never changes.
var closed = []string{"kind", "stage", "state", "listener", "verdict"}

func metrics() (string, error) {
	all, err := families()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(head("Metrics", "What `/metrics` of `listen` serves, beside the `process_…` metrics of the\nPrometheus client. Names, labels and meanings never change.\n\nCounters start at 0 with the process, for every reason and kind. A chain whose `name` is not its id\nhas that name as the label `chain` beside `chain_id`. `privyseal_witness_…` and\n`privyseal_duplicate_signer` are there for a chain with a `witness`, `privyseal_device_…` for one whose key\nis on devices or servers, `privyseal_cluster_…` for a database with marks, as this host sees it every\n10 seconds, and `privyseal_enclave_…` for an enclave.\n\n| metric | type | labels | meaning |\n|---|---|---|---|"))
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "privyseal_") {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labels(f), cell(f.GetHelp()))
		}
	}
	return b.String(), nil
}

// labels returns the labels of a metric, with their values where these are a list.
func labels(f *dto.MetricFamily) string {
	var names []string
	values := map[string][]string{}
	for _, m := range f.Metric {
		for _, l := range m.Label {
			name := l.GetName()
			if !slices.Contains(names, name) && name != "chain" {
				names = append(names, name)
			}
			if !slices.Contains(values[name], l.GetValue()) {
				values[name] = append(values[name], l.GetValue())
			}
		}
	}
	for i, name := range names {
		switch names[i] = code(name); {
		case name == "reason":
			names[i] = "[" + names[i] + "](refusals.md)"
		case slices.Contains(closed, name):
			names[i] += " (" + strings.Join(values[name], ", ") + ")"
		}
	}
	return strings.Join(names, ", ")
}

// refusal is what an operator reads about a reason. A reason that ends in … is one with
// _same_node and _other_node.
type refusal struct{ reason, meaning, do string }

var allRefusals = []refusal{
	{"conflict_other_node", "a second node asks for another block (each proposes its own)", "nothing: routine with two nodes"},
	{"conflict_same_node", "a node contradicts itself", "look at that node **now**: two processes on one data folder, a restored snapshot, a break-in. Nothing was signed twice"},
	{"height_regression_…", "asked for something below the mark", "`other_node`: nothing, the node lags; `same_node`: look at that node, which went back, as after a restore"},
	{"round_regression_…", "the same, of an earlier round of the mark's height", "the same"},
	{"step_regression_…", "the same, of an earlier step of the mark's round", "the same"},
	{"unknown_bytes_…", "the mark was taken over without the bytes that were signed (tmkms)", "nothing: the next height is signed"},
	{"height_gap", "the first height after a start is not the mark's next one", "nothing, if the chain goes on without us: one block is skipped, because a copy of this state may have signed it. If it waits for us: [The chain waits for this key](../operations.md#the-chain-waits-for-this-key)"},
	{"height_leap", "further ahead than the bucket allows: 100,000, whatever the age of the mark", "a hostile node, or a chain much faster than `height_per_second`, or a state of long ago: see [A chain that is far ahead](../operations.md#a-chain-that-is-far-ahead)"},
	{"height_ceiling", "above what the chain can have reached since its witness saw it last", "a hostile node; or witnesses that lag: see [A witness](../operations.md#a-witness)"},
	{"height_max", "above `max_height`", "raise it when the chain is meant to go on"},
	{"height_floor", "at or below the floor of an enclave's policy, or at a height that the chain had passed when the signer started, by its witness", "nothing: signing starts above it"},
	{"duplicate_signer", "a witness showed a signature of our key that we did not make", "**now**: see [A witness](../operations.md#a-witness)"},
	{"wrong_chain", "the node asks for another chain id", "fix the node's genesis or the config"},
	{"invalid_request", "not a vote or proposal that could be signed", "a broken node, or one whose messages differ. Fields that no CometBFT version has are not a reason: they are ignored, counted and never signed"},
	{"raw_bytes", "bytes of the node's choice", "see [`allow_sign_bytes`, `allow_raw_bytes`](config.md)"},
}

// refusals fails if a reason is missing, or there is no such reason any more.
func refusals() (string, error) {
	left := signer.Reasons()
	var b strings.Builder
	b.WriteString(head("Reasons for a refusal", "The label `reason` of [`privyseal_refused_total`](metrics.md), and what `privyseal status` shows. A\nrefusal is final: the node gets an error, and nothing was signed.\n\n| reason | meaning | what to do |\n|---|---|---|"))
	for _, r := range allRefusals {
		stem, both := strings.CutSuffix(r.reason, "…")
		names := []string{stem}
		if both {
			names = []string{stem + "same_node", stem + "other_node"}
		}
		for _, name := range names {
			i := slices.Index(left, name)
			if i < 0 {
				return "", fmt.Errorf("test/reference explains the reason %s, which the signer does not have", name)
			}
			left = slices.Delete(left, i, i+1)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.reason, r.meaning, r.do)
	}
	if len(left) > 0 {
		return "", fmt.Errorf("test/reference does not explain the reasons %q", left)
	}
	b.WriteString("\nA reason that ends in `…` is two: `…same_node` if the node that asks raised the mark itself, `…other_node` if another one did.\n")
	return b.String(), nil
}
