package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
)

// tmkms signs for a validator. While it runs privyseal refuses to take over; once it has
// stopped, privyseal goes on above its last signature, for the node that ran all along.
func TestTMKMS(t *testing.T) {
	tmkms, err := tools.Program("tmkms-v0.15.0-yubihsm", "scripts/setup peers")
	check(t, err)
	// v1 speaks a protocol that tmkms has not learned.
	for _, version := range []string{"v0.34.35", "v0.38.26"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, "peers-tmkms", version, 0)
			home := filepath.Join(n.dir, "tmkms")
			state := n.initTMKMS(tmkms, home, version)
			stop := n.startOld("tmkms", home, tmkms, "start", "-c", "tmkms.toml")
			n.start()
			n.signs(5)
			n.refused("a signer still runs", "tmkms", home)
			n.signs(1)
			stop()
			n.takeOver(readPlace(t, state, 0), "tmkms", home)
		})
	}
}

// initTMKMS makes a home by tmkms' own commands, and its config. It returns the path of
// the state.
func (n *network) initTMKMS(tmkms, home, version string) (state string) {
	n.t.Helper()
	for _, dir := range []string{"secrets", "state"} {
		check(n.t, os.MkdirAll(filepath.Join(home, dir), 0o700))
	}
	_, err := rig.Output(n.ctx, tmkms, "softsign", "import", n.keyFile(), filepath.Join(home, "secrets", "consensus.key"))
	check(n.t, err)
	_, err = rig.Output(n.ctx, tmkms, "softsign", "keygen", "-t", "consensus", filepath.Join(home, "secrets", "identity.key"))
	check(n.t, err)
	protocol := "v0.38"
	if version < "v0.38" {
		protocol = "v0.34"
	}
	state = filepath.Join(home, "state", n.id+".json")
	check(n.t, os.WriteFile(filepath.Join(home, "tmkms.toml"), fmt.Appendf(nil, `[[chain]]
id = %q
key_format = { type = "hex" }
state_file = %q

[[providers.softsign]]
chain_ids = [%q]
key_type = "consensus"
path = "secrets/consensus.key"

[[validator]]
chain_id = %q
addr = %q
secret_key = "secrets/identity.key"
protocol_version = %q
`, n.id, state, n.id, n.id, n.privval[0], protocol), 0o600))
	return state
}
