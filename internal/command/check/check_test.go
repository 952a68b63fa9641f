package check

import (
	"strings"
	"testing"
	"time"

	"privyseal/internal/command/screen/screentest"
	"privyseal/internal/provider"
)

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
	for name, s := range screentest.Screens {
		t.Run(name, func(t *testing.T) {
			page := k.page(s)
			screentest.Golden(t, "check-"+name+".txt", page)
			if s.Width == 120 {
				screentest.Fits(t, page, s)
			}
		})
	}
	var b strings.Builder
	if err := k.printJSON(&b); err != nil {
		t.Fatal(err)
	}
	screentest.Golden(t, "check.json", b.String())
}

// How long a durable write may take.
func TestDisk(t *testing.T) {
	const write = "/s takes 20ms for a durable write"
	for _, tt := range []struct {
		took time.Duration
		want string
	}{
		{420 * time.Microsecond, "ok /s takes 420µs for a durable write -> "},
		{20 * time.Millisecond, "ok " + write + " -> "},
		{20*time.Millisecond + 1, "-- " + write + "; an SSD takes under a millisecond -> "},
		{time.Second, "-- /s takes 1s for a durable write; an SSD takes under a millisecond -> "},
		{time.Second + 1, "FAIL /s takes 1s for a durable write; votes will be late -> move the key `state` to a local SSD: `privyseal state export`, then import"},
	} {
		k := &inspection{}
		k.addDisk("/s", tt.took)
		if row := k.Rows[0]; len(k.Rows) != 1 || row.Check != "disk" || string(row.Verdict)+" "+row.Text+" -> "+row.Cure != tt.want {
			t.Errorf("%v: %+v, want %s", tt.took, k.Rows, tt.want)
		}
	}
}
