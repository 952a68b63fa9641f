package command

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/monitor"
	"privyseal/internal/provider"
	"privyseal/internal/witness"
)

var update = flag.Bool("update", false, "rewrite the golden pages")

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name   string
		width  int
		indent int
		text   string
		want   []string
	}{
		{"no limit", 0, 10, strings.Repeat("word ", 50) + "end", []string{strings.Repeat("word ", 50) + "end"}},
		{"it fits", 40, 10, "thirty columns and not one more"[:30], []string{"thirty columns and not one mor"}},
		{"one too many", 40, 10, "thirty columns and not one more", []string{"thirty columns and not one", "more"}},
		{"columns are letters, not bytes", 34, 10, "ä ö ü ä ö ü ä ö ü ä ö ü", []string{"ä ö ü ä ö ü ä ö ü ä ö ü"}},
		{"a word that is too long goes alone", 34, 10, "x " + strings.Repeat("y", 30) + " z", []string{"x", strings.Repeat("y", 30), "z"}},
		{"a command is not broken", 34, 10, "type `privyseal state adopt --yes` now", []string{"type", "`privyseal state adopt --yes`", "now"}},
		{"no room at all", 20, 10, "a text that the terminal breaks as it likes", []string{"a text that the terminal breaks as it likes"}},
		{"nothing", 40, 10, "", []string{""}},
		{"an order to the terminal is none", 0, 0, "a\x1b[2Jb\rc\x07d\ne\tf\u202eg", []string{"a?[2Jb?c?d e f?g"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, screen{width: tt.width}.wrap(tt.indent, tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

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
			Name: "quantum-1", ID: "quantum-1", Ready: true, Provider: "soft", Step: "none",
			PubKey: strings.Repeat("A", 2604), KeyType: "ml_dsa_65", Address: "00112233445566778899AABBCCDDEEFF00112233",
		}},
	}
}

// golden compares a page with the one in testdata/screen.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata/screen", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// checkWidth checks that each line fits, but for those of one word and for commands.
func checkWidth(t *testing.T, page string, width int) {
	t.Helper()
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > width && len(words(line)) > 1 {
			t.Errorf("%d columns of %d: %s", n, width, line)
		}
	}
}

func TestStatusPages(t *testing.T) {
	for name, s := range map[string]screen{"pipe": {}, "80": {width: 80}, "120": {width: 120}, "colour": {width: 80, colour: true}} {
		t.Run(name, func(t *testing.T) {
			page := statusPage(s, aSnapshot(), now)
			golden(t, "status-"+name+".txt", strings.ReplaceAll(page, "\x1b", "^["))
			if s.width > 0 && !s.colour {
				checkWidth(t, page, s.width)
			}
		})
	}
}

// anInspection has a row of each kind.
func anInspection() *inspection {
	k := &inspection{}
	k.Add(provider.Good, 0, "home", "/var/lib/privyseal, mode 0700", "")
	k.Add(provider.Unsure, 0, "signer", "not running; `privyseal start --home /var/lib/privyseal` starts it", "")
	k.Chain = "cosmoshub-4"
	k.Add(provider.Bad, 13, wholeChain, "the running signer does not know it: it was added after the start", "restart the signer, as in `systemctl restart privyseal`")
	k.Add(provider.Bad, 17, "state", "cannot read state state/cosmoshub-4.mark: there is no such file\nif this key has never signed for this chain: `privyseal state init --chain-id cosmoshub-4 --fresh-state`\nif it has: `privyseal state init --chain-id cosmoshub-4 --after-height H`, with a height well above all that the chain has reached", "")
	k.Node = "sentry-1"
	k.Add(provider.Good, 19, "node", "unix:///run/node/privval.sock, serving for 3h00m", "")
	k.Chain, k.Node = "", ""
	k.Add(provider.Good, 0, "disk", "/var/lib/privyseal/state takes 1.1ms a durable write", "")
	return k
}

func TestCheckPages(t *testing.T) {
	k := anInspection()
	for name, s := range map[string]screen{"pipe": {}, "80": {width: 80}, "120": {width: 120}, "colour": {width: 80, colour: true}} {
		t.Run(name, func(t *testing.T) {
			page := k.page(s)
			golden(t, "check-"+name+".txt", strings.ReplaceAll(page, "\x1b", "^["))
			if s.width == 120 {
				checkWidth(t, page, s.width)
			}
		})
	}
	var b strings.Builder
	if err := k.printJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "check.json", b.String())
}

// --ready names what is missing, and nothing else.
func TestReadiness(t *testing.T) {
	s := aSnapshot()
	const want = `the signer is not ready
cosmoshub-4: node sentry-3 is dialling, unix:///run/third/privval.sock; connect: no such file or directory
rotated cannot sign: cannot open state state/rotated.mark: it was copied or restored
if this copy is the last one: ` + "`privyseal state adopt --chain-id rotated --home /var/lib/privyseal`" + `
rotated: node node1 is dialling, unix:///run/new/privval.sock
osmosis-1 cannot sign: the enclave is starting`
	if err := readiness(s); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	s.Ready = true
	if err := readiness(s); err != nil {
		t.Error(err)
	}
}

// A page is drawn over the one before, without clearing the screen in between, and
// no further down than the screen goes.
func TestDrawnOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		height int
		page   string
		want   string
	}{
		{"a page", 10, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
		{"it fits to the line", 4, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
		{"a line too many", 3, "one\ntwo\nthree\n", "^[[Hone^[[K\r\n…^[[K\r\n^[[J"},
		{"a line that takes two rows", 4, "one\n" + strings.Repeat("x", 21) + "\nthree\n", "^[[Hone^[[K\r\n…^[[K\r\n^[[J"},
		{"no height is known", 0, "one\ntwo\n", "^[[Hone^[[K\r\ntwo^[[K\r\n^[[J"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.ReplaceAll(screen{width: 20, height: tt.height}.over(tt.page), "\x1b", "^[")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if page := watchPage(screen{}, monitor.Snapshot{}, errors.New("no signer is running in h"), now); page != "12:00:00  no signer is running in h\n" {
		t.Errorf("%q", page)
	}
}

// An error says whose it is on each line, and is broken like anything else.
func TestComplaint(t *testing.T) {
	text := "no signer is running in /var/lib/privyseal, or in any other folder that is known here\nstart one with `privyseal start --home /var/lib/privyseal --standby --and-some-more-of-it`"
	want := `privyseal: no signer is running in /var/lib/privyseal, or in any other folder
           that is known here
privyseal: start one with
           ` + "`privyseal start --home /var/lib/privyseal --standby --and-some-more-of-it`\n"
	if diff := cmp.Diff(want, screen{width: 80}.complaint(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (screen{}).complaint("a\nb"); got != "privyseal: a\nprivyseal: b\n" {
		t.Errorf("%q", got)
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

// What goes into a file or a pipe has neither colours nor breaks.
func TestNoTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := screenOf(f); got != (screen{}) {
		t.Errorf("a file is %+v", got)
	}
	if got := screenOf(&strings.Builder{}); got != (screen{}) {
		t.Errorf("a buffer is %+v", got)
	}
}
