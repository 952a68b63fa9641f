package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
)

// Three cosigners of Horcrux, two of which make a signature, sign for a validator and its
// two sentries, each dialled by one of them. Horcrux' own commands deal the shards and
// write the configs. The homes of two are enough for privyseal, whichever two, and it goes
// on above what they signed together.
func TestHorcrux(t *testing.T) {
	horcrux, err := tools.Program("horcrux-v3.3.2", "scripts/setup peers")
	check(t, err)
	for _, some := range [][]int{{1, 2}, {1, 3}, {2, 3}} {
		t.Run(fmt.Sprintf("cosigners %d and %d", some[0], some[1]), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, "peers-horcrux", "v0.38.26", 2)
			homes := n.initHorcrux(horcrux)
			var stops []func()
			for i, home := range homes {
				stops = append(stops, n.startOld(fmt.Sprintf("cosigner %d", i+1), home, horcrux, "start", "--home", home))
			}
			n.start()
			n.signs(5)
			args := []string{"horcrux", homes[some[0]-1], homes[some[1]-1]}
			n.refused("a signer still runs", args...)
			n.signs(1)
			for _, stop := range stops {
				stop()
			}
			n.refused("needs the shards of 2 cosigners", args[:2]...)
			// One cosigner alone makes no signature: the second highest has the last.
			var ends []place
			for _, home := range homes {
				ends = append(ends, readPlace(t, filepath.Join(home, "state", n.id+"_share_sign_state.json"), 1))
			}
			slices.SortFunc(ends, func(a, b place) int {
				if a.above(b) {
					return -1
				}
				return 1
			})
			// The node that no named config has is named.
			for i := range homes {
				if i+1 != some[0] && i+1 != some[1] {
					args = append(args, "--node", n.privval[i])
				}
			}
			n.takeOver(ends[1], args...)
		})
	}
}

// initHorcrux makes the homes of three cosigners.
func (n *network) initHorcrux(horcrux string) (homes []string) {
	n.t.Helper()
	out := filepath.Join(n.dir, "horcrux")
	run := func(args ...string) {
		n.t.Helper()
		_, err := rig.Output(n.ctx, horcrux, args...)
		check(n.t, err)
	}
	none := filepath.Join(n.dir, "no-horcrux")
	run("create-ed25519-shards", "--home", none, "--chain-id", n.id, "--key-file", n.keyFile(), "--threshold", "2", "--shards", "3", "--out", out)
	run("create-ecies-shards", "--home", none, "--shards", "3", "--out", out)
	config := []string{"config", "init", "--threshold", "2"}
	for range 3 {
		config = append(config, "--cosigner", "tcp://"+freeAddr(n.t))
	}
	for i := range 3 {
		home := filepath.Join(out, fmt.Sprintf("cosigner_%d", i+1))
		run(append(config, "--home", home, "--node", n.privval[i])...)
		if _, err := os.Stat(filepath.Join(home, n.id+"_shard.json")); err != nil {
			n.t.Fatal(err)
		}
		homes = append(homes, home)
	}
	return homes
}
