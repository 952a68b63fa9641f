// Package e2e shows privyseal, as a program, signing for real nodes of every
// version of CometBFT. What it needs is built by `scripts/setup nodes`.
package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/tools"
)

// blocks is how many blocks each chain makes.
const blocks = 30

// program is the privyseal under test.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	// The nodes wait most of the time, for a clock or for each other: four of
	// them fit on two cores.
	flag.Set("test.parallel", "4")
	os.Exit(story.Main(m, func(dir string) (err error) {
		program = filepath.Join(dir, "privyseal")
		return tools.Build(context.Background(), program)
	}))
}

// setup describes a chain with one validator, or the first of a network.
type setup struct {
	version   string
	transport string // unix, tcp or noise
	keyType   pubkey.Type
}

// chain is a node and its signer, both running.
type chain struct {
	setup
	id     string
	node   *rig.Node
	signer *rig.Signer
	key    pubkey.Key
}

// startChain makes the homes of both, starts the signer, then the node. They end
// with the test, the node first: it hangs when its signer goes before it.
func startChain(ctx context.Context, t *testing.T, s setup) *chain {
	t.Helper()
	c := &chain{setup: s, id: "e2e-" + s.version + "-" + s.transport}
	dir := newDir(t)
	var err error
	c.node, err = rig.InitNode(ctx, s.version, filepath.Join(dir, "node"))
	need(t, err)
	dial, privval := c.addresses(ctx, t, dir)
	c.signer, err = rig.InitSigner(ctx, program, filepath.Join(dir, "signer"), c.id, []string{dial}, "--key-type", string(s.keyType))
	check(t, err)
	key, text := showKey(ctx, t, c.signer)
	c.key = key
	check(t, c.node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(c.id)
		g.SetValidator(0, text, string(key.Type()))
		// With them on, a node dies of a precommit without an extension signature.
		old := strings.HasPrefix(s.version, "v0.34.") || strings.HasPrefix(s.version, "v0.37.")
		if enabled := g.EnableVoteExtensions(); enabled == old {
			t.Errorf("vote extensions enabled in %s: %t", s.version, enabled)
		}
	}))
	story.StartSigner(t, c.signer)
	startNode(t, c.node, privval(c.signer))
	return c
}

// addresses returns where the signer dials, and where the node listens.
func (c *chain) addresses(ctx context.Context, t *testing.T, dir string) (dial string, privval func(*rig.Signer) string) {
	t.Helper()
	switch c.transport {
	case "unix":
		addr := "unix://" + filepath.Join(dir, "n.sock")
		return addr, func(*rig.Signer) string { return addr }
	case "tcp":
		addr := "tcp://" + freeAddr(t)
		return addr, func(*rig.Signer) string { return addr }
	}
	peer, err := c.node.PeerID(ctx)
	check(t, err)
	addr := freeAddr(t)
	return "noise://" + peer + "@" + addr, func(s *rig.Signer) string {
		ours, err := s.Key(ctx, "peer-id")
		check(t, err)
		return "noise://" + ours + "@" + addr
	}
}

// makesBlocks waits for the blocks, checks the last commit against the key, and
// that the signer counted what it signed.
func (c *chain) makesBlocks(ctx context.Context, t *testing.T) {
	t.Helper()
	check(t, c.node.WaitHeight(ctx, blocks+1))
	verifyCommit(ctx, t, c.node, c.key, blocks)

	metrics, err := c.signer.Metrics(ctx)
	check(t, err)
	for _, kind := range []string{"proposal", "prevote", "precommit"} {
		name := fmt.Sprintf("privyseal_signed_total{chain_id=%q,kind=%q}", c.id, kind)
		if metrics[name] < blocks {
			t.Errorf("%s is %v after %d blocks", name, metrics[name], blocks)
		}
	}
}

// verifyCommit checks that the commit of a block has a signature by the key.
func verifyCommit(ctx context.Context, t *testing.T, n *rig.Node, key pubkey.Key, height int64) {
	t.Helper()
	commit, err := n.Commit(ctx, height)
	check(t, err)
	signBytes, signature, ok := commit.SignatureOf(address(t, key))
	switch {
	case !ok:
		t.Errorf("the commit of block %d has no signature of our validator: %+v", height, commit)
	case !key.Verify(signBytes, signature):
		t.Errorf("the commit of block %d has a signature that the key does not verify", height)
	}
}

func address(t *testing.T, key pubkey.Key) string {
	t.Helper()
	text := fmt.Sprintf("%X", key.Address())
	return text
}

// showKey returns the signer's public key, and the text of it for a genesis.
func showKey(ctx context.Context, t *testing.T, s *rig.Signer) (pubkey.Key, json.RawMessage) {
	t.Helper()
	text, err := s.Key(ctx, "json")
	check(t, err)
	key, err := pubkey.ParseJSON([]byte(text))
	check(t, err)
	return key, json.RawMessage(text)
}

func startNode(t *testing.T, n *rig.Node, privval string) {
	t.Helper()
	check(t, n.Start(privval))
	story.EndNode(t, n)
}

func newDir(t *testing.T) string {
	t.Helper()
	dir, err := rig.NewDir()
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := rig.FreePort()
	check(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// check is short, because nearly each line has it.
var check = story.Check

// need is check for what may not be there, and `make` brings.
func need(t *testing.T, err error) {
	t.Helper()
	story.Need(t, "PRIVYSEAL_REQUIRE_NODES", err)
}
