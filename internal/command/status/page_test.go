package status

import (
	"errors"
	"strings"
	"testing"
	"time"

	"privyseal/internal/command/screen"
	"privyseal/internal/command/screen/screentest"
	"privyseal/internal/monitor"
	"privyseal/internal/witness"
)

// now is when the pages of these tests are read.
var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// aSnapshot has a chain that signs, one that cannot, one that waits for its enclave,
// and a second key of the first.
func aSnapshot() monitor.Snapshot {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	return monitor.Snapshot{
		Version: "v1.2.3", PID: 4711, Started: ago(76 * time.Hour),
		Chains: []monitor.ChainSnapshot{{
			Name: "cosmoshub-4", ID: "cosmoshub-4", Ready: true, Provider: "soft",
			PubKey: "9ZcrmhPXk3Ps+If2/z+DQnBvJ6LvRW8vTTNZxUZOCoM=", KeyType: "ed25519", Address: "6D5770D9C0A04612965DD3987E7E77632589DC69",
			Witness: &witness.Snapshot{State: "open", Tip: 24_123_456, TipTime: ago(900 * time.Millisecond), Floor: 24_100_000, Sources: []witness.Source{
				{Addr: "http://10.0.0.7:26657", Answered: true, Tip: 24_123_456},
				{Addr: "http://10.0.0.8:26657", Problem: "cannot ask the witness http://10.0.0.8:26657: dial tcp 10.0.0.8:26657: connect: connection refused"},
			}},
			Height: 24_123_456, Step: "precommit", MarkTime: ago(1200 * time.Millisecond), Signed: monitor.Signed{Node: "sentry-1"},
			LastRefusal: &monitor.Refusal{Time: ago(3 * time.Hour), Node: "sentry-2", Reason: "conflict_other_node", Text: "asked for 24121000/0/proposal, the mark is at 24121000/0/proposal"},
			Nodes: []monitor.NodeSnapshot{
				{Name: "sentry-1", Addr: "unix:///run/node/privval.sock", State: "serving", Since: ago(75 * time.Hour)},
				{Name: "sentry-2", Addr: "noise://12D3KooWQ5aaPLn1rhtELyw2ewXJ1V3uTmwqPuHWtZTzVsbXRhYK@10.0.0.7:26659", State: "parked", Since: ago(40 * time.Minute)},
				{Name: "sentry-3", Addr: "unix:///run/third/privval.sock", State: "dialling", Since: ago(5 * time.Second), LastError: "cannot dial unix:///run/third/privval.sock: connect: no such file or directory"},
			},
		}, {
			Name: "rotated", ID: "cosmoshub-4",
			Witness: &witness.Snapshot{State: witness.Stopped, Detail: "the chain has a precommit of our key at height 7, round 0", Lies: 3},
			Problem: "cannot open state state/rotated.mark: it was copied or restored\nif this copy is the last one: `privyseal state adopt --chain-id rotated --home /var/lib/privyseal`",
			Nodes:   []monitor.NodeSnapshot{{Name: "node1", Addr: "unix:///run/new/privval.sock", State: "dialling", Since: ago(76 * time.Hour)}},
		}, {
			Name: "juno-1", ID: "juno-1", Ready: true, Provider: "yubihsm", Step: "none",
			PubKey: "9ZcrmhPXk3Ps+If2/z+DQnBvJ6LvRW8vTTNZxUZOCoM=", KeyType: "ed25519", Address: "6D5770D9C0A04612965DD3987E7E77632589DC69",
			Devices: []monitor.Device{
				{Address: "usb://0012345678", Name: "YubiHSM 0012345678, firmware 2.4.0", Since: ago(70 * time.Hour), Signatures: 84_000, LastTook: 0.11244, LogUsed: 55, LogSize: 62, Audited: true, Undrained: "no space left on device", Foreign: 1},
				{Address: "http://127.0.0.1:12345", Since: ago(4 * time.Minute), Failed: "cannot use it: no answer from the YubiHSM connector\nat http://127.0.0.1:12345"},
			},
		}, {
			Name: "osmosis-1", ID: "osmosis-1", Provider: "nitro",
		}, {
			Name: "celestia", ID: "celestia", Ready: true, Provider: "nitro", Height: 1_204, Step: "prevote", MarkTime: ago(3 * time.Minute),
			PubKey: "9ZcrmhPXk3Ps+If2/z+DQnBvJ6LvRW8vTTNZxUZOCoM=", KeyType: "ed25519", Address: "6D5770D9C0A04612965DD3987E7E77632589DC69",
			Problem: "etcd main: it was restored\nif this is the database to go on with: `privyseal state adopt --chain-id celestia`",
		}, {
			Name: "quantum-1", ID: "quantum-1", Ready: true, Provider: "soft", Step: "none",
			PubKey: strings.Repeat("A", 2604), KeyType: "ml_dsa_65", Address: "00112233445566778899AABBCCDDEEFF00112233",
		}},
		Findings: []monitor.Findings{{Store: "etcd", Name: "old", Failed: 2, Doubtful: 3}, {Store: "etcd", Name: "main", Doubtful: 1}},
		Clusters: []monitor.Cluster{
			{Store: "etcd", Name: "main", Looked: ago(4 * time.Second), Voters: 3, Members: []monitor.ClusterMember{
				{Address: "https://10.0.0.1:2379", Version: "3.7.3", Led: true, Took: 0.00031, Size: 12 << 20, Quota: 2 << 30},
				{Address: "https://10.0.0.2:2379", Version: "3.5.28", Leader: true, Led: true, Took: 0.0021, Size: 80 << 10},
				{Address: "https://10.0.0.3:2379", Failed: "cannot connect to https://10.0.0.3:2379: no answer within 2s\nlook at it"},
			}},
			{Store: "etcd", Name: "old", Looked: ago(3 * time.Minute), Voters: 3, Alarms: []string{"NOSPACE of member 8e9e05c52164694d"}, Members: []monitor.ClusterMember{
				{Address: "https://10.0.1.1:2379", Version: "3.6.9", Took: 0.00031, Size: 12 << 20},
			}},
			{Store: "etcd", Name: "enclaves", Problem: "client.key is not a key in PEM but a wrapped one: only the enclave that has the key reaches the cluster"},
		},
	}
}

func TestStatusPages(t *testing.T) {
	for name, s := range screentest.Screens {
		t.Run(name, func(t *testing.T) {
			text := page(s, aSnapshot(), now)
			screentest.Golden(t, "status-"+name+".txt", text)
			if s.Width > 0 && !s.Colour {
				screentest.Fits(t, text, s)
			}
		})
	}
}

// --ready names what is missing, and nothing else.
func TestReadiness(t *testing.T) {
	s := aSnapshot()
	const want = `the signer is not ready
cosmoshub-4: node sentry-3 is dialling, unix:///run/third/privval.sock; connect: no such file or directory
rotated cannot sign: cannot open state state/rotated.mark: it was copied or restored
if this copy is the last one: ` + "`privyseal state adopt --chain-id rotated --home /var/lib/privyseal`" + `
rotated: node node1 is dialling, unix:///run/new/privval.sock
osmosis-1 cannot sign: the enclave is starting
celestia cannot sign: etcd main: it was restored
if this is the database to go on with: ` + "`privyseal state adopt --chain-id celestia`"
	if err := readiness(s); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	s.Ready = true
	if err := readiness(s); err != nil {
		t.Error(err)
	}
}

// What a witness says is a list, whatever is missing of it.
func TestWitnessRow(t *testing.T) {
	now := time.Now()
	for want, s := range map[string]*witness.Snapshot{
		"none, so nobody would see a second signer":              nil,
		"open no witness answers":                                {State: "open", Detail: "no witness answers"},
		"open tip 7, 3s ago":                                     {State: "open", Tip: 7, TipTime: now.Add(-3 * time.Second)},
		"open tip 7, 3s ago, 1 untrue claim; no witness answers": {State: "open", Tip: 7, TipTime: now.Add(-3 * time.Second), Lies: 1, Detail: "no witness answers"},
		"open 2 untrue claims":                                   {State: "open", Lies: 2},
	} {
		row := witnessRows(s, now)[0]
		if got := strings.TrimSpace(row.word + " " + row.text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What is drawn again has the time.
func TestWatchPage(t *testing.T) {
	if page := watchPage(screen.Screen{}, monitor.Snapshot{}, errors.New("no signer is running in h"), now); page != "12:00:00  no signer is running in h\n" {
		t.Errorf("%q", page)
	}
}
