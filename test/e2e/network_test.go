package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// Four validators, and the key of the first behind two nodes at once, as an
// operator has it who wants to lose a host without losing blocks. Both nodes
// propose and vote; one signer answers both with one mark. The validator misses
// at most every tenth commit, and no node ever gets a second opinion.
func TestTwoNodesShareAValidator(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 5*time.Minute)
	dir := newDir(t)
	nodes, err := rig.InitNetwork(ctx, "v0.38.26", filepath.Join(dir, "net"), 4, 1)
	need(t, err)
	// The second node of the key is the one that was not a validator.
	ours := []*rig.Node{nodes[0], nodes[4]}
	privval := []string{"unix://" + filepath.Join(dir, "a.sock"), "unix://" + filepath.Join(dir, "b.sock")}

	const chainID = "e2e-network"
	signer, err := rig.InitSigner(ctx, program, filepath.Join(dir, "signer"), chainID, []string{"a=" + privval[0], "b=" + privval[1]})
	check(t, err)
	key, text := showKey(ctx, t, signer)
	for _, n := range nodes {
		check(t, n.EditGenesis(func(g *rig.Genesis) {
			g.SetChainID(chainID)
			g.SetValidator(0, text, string(key.Type()))
			g.EnableVoteExtensions()
		}))
	}
	story.StartSigner(t, signer)
	// CometBFT's own timeout_commit: a proposer waits that long for precommits. With the
	// few milliseconds of other tests, a busy machine decides which commits have all four.
	for _, n := range nodes {
		check(t, n.Configure("consensus", "timeout_commit", "1s"))
	}
	for i, n := range ours {
		startNode(t, n, privval[i])
	}
	for _, n := range nodes[1:4] {
		startNode(t, n, "")
	}

	// The first blocks find the nodes still looking for each other.
	const first, last int64 = 6, 6 + 50
	for _, n := range nodes {
		check(t, n.WaitHeight(ctx, last+1))
	}
	signed := countCommits(ctx, t, nodes[1], key, first, last)
	if total := last - first; signed*10 < total*9 {
		t.Errorf("our validator is in %d of %d commits", signed, total)
	}
	t.Logf("our validator is in %d of %d commits", signed, last-first)
	bothAreServed(ctx, t, signer)
}

// countCommits counts in how many commits of blocks first to last-1 the key
// has its signature, and verifies each.
func countCommits(ctx context.Context, t *testing.T, n *rig.Node, key pubkey.Key, first, last int64) (signed int64) {
	t.Helper()
	for h := first; h < last; h++ {
		commit, err := n.Commit(ctx, h)
		check(t, err)
		signBytes, signature, ok := commit.SignatureOf(address(t, key))
		if !ok {
			continue
		}
		if !key.Verify(signBytes, signature) {
			t.Errorf("the commit of block %d has a signature that the key does not verify", h)
		}
		signed++
	}
	return signed
}

// bothAreServed checks that neither node was shut out, and that the refusals
// are those of two nodes that share a key, not those of a node that contradicts
// itself.
func bothAreServed(ctx context.Context, t *testing.T, s *rig.Signer) {
	t.Helper()
	metrics, err := s.Metrics(ctx)
	check(t, err)
	for _, node := range []string{"a", "b"} {
		name := `privyseal_node_state{chain_id="e2e-network",node="` + node + `",state="serving"}`
		if metrics[name] != 1 {
			t.Errorf("%s is %v", name, metrics[name])
		}
	}
	for name, n := range metrics {
		if !strings.HasPrefix(name, "privyseal_refused_total") || n == 0 {
			continue
		}
		t.Logf("%s %v", name, n)
		if !strings.Contains(name, "_other_node") {
			t.Errorf("%s is %v", name, n)
		}
	}
}
