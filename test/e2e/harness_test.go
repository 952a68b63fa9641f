package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/tools"
)

// Tendermint's own acceptance test for signers: the public key, a proposal, a
// prevote and a precommit. It reads the key from a node's home, so privyseal
// signs with an import of that key.
func TestTendermintSignerHarness(t *testing.T) {
	t.Parallel()
	harness, err := tools.Program("tm-signer-harness-v0.34.24", "scripts/setup nodes")
	need(t, err)
	for _, transport := range []string{"unix", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			ctx := story.Within(t, time.Minute)
			dir := newDir(t)
			node, err := rig.InitNode(ctx, "v0.34.35", filepath.Join(dir, "node"))
			need(t, err)
			addr := "unix://" + filepath.Join(dir, "n.sock")
			if transport == "tcp" {
				addr = "tcp://" + freeAddr(t)
			}
			signer, err := rig.InitSigner(ctx, program, filepath.Join(dir, "signer"), chainIDOf(t, node), []string{addr},
				"--import-key", filepath.Join(node.Home, "config", "priv_validator_key.json"), "--fresh-state")
			check(t, err)
			story.StartSigner(t, signer)

			out, err := rig.Output(ctx, harness, "run", "-addr", addr, "-tmhome", node.Home, "-accept-retries", "500")
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func chainIDOf(t *testing.T, n *rig.Node) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Home, "config", "genesis.json"))
	check(t, err)
	var genesis struct {
		ChainID string `json:"chain_id"`
	}
	check(t, json.Unmarshal(text, &genesis))
	return genesis.ChainID
}
