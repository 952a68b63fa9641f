package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
)

// blockTime is that of a quick chain of today.
const blockTime = time.Second

// missable is how many blocks an upgrade may cost beside those that were voted for while
// there was no enclave to sign them: the three that the guide allows it, and as many for
// a busy machine, whose node and enclave find each other late. It makes fewer blocks, too.
const missable = 6

// The upgrade to a new image, step by step as in doc/nitro.md, in a network of four
// validators: ours misses at most missable blocks more than the boot takes (on an
// idle machine, no block), and its mark never falls. Then the state of before, which somebody has
// kept, is used on a second instance: both hosts' witnesses see it.
func TestUpgrade(t *testing.T) {
	ctx := story.Within(t, 2*time.Minute)
	w := newWorld(t)
	old := testImage(ctx, t, w)
	n := newNetwork(ctx, t, w, old)
	c, s, other := n.chain, n.signer, n.nodes[1]
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
	kept := n.copyHome("kept")
	check(t, s.Configure("eif", strconv.Quote(next.Path)))
	check(t, s.Start())
	after := n.signsAgain(before)
	ready := n.readySince(began)
	t.Logf("there was an enclave again after %.1f s, and a block of it after %.1f s", ready.Sub(began).Seconds(), time.Since(began).Seconds())

	rises(ctx, t, w, next, s, c, last)
	check(t, w.LetIn(ctx, next))
	missed, late := n.missed(before, after+2, ready)
	t.Logf("%d of the blocks %d to %d were missed, %d of them when the new enclave signed", missed, before, after+2, late)
	if late > missable {
		t.Errorf("%d blocks were missed while the new enclave signed, more than %d", late, missable)
	}
	n.twin(kept, next)
}

// network is four validators, of which ours signs in an enclave whose host has another's
// node for a witness. The last node is not a validator: the place of a second signer.
type network struct {
	ctx    context.Context
	t      *testing.T
	w      *world.World
	chain  *enclave.Chain // its node is the first
	nodes  []*noderig.Node
	signer *noderig.Signer
}

const validators = 4

// newNetwork makes and starts all but the last node.
func newNetwork(ctx context.Context, t *testing.T, w *world.World, im *world.Image) *network {
	t.Helper()
	nodes, err := noderig.InitNetwork(ctx, enclave.NodeVersion, filepath.Join(w.Dir, "net"), validators, 1)
	need(t, err)
	n := &network{ctx: ctx, t: t, w: w, nodes: nodes}
	n.chain = &enclave.Chain{ID: "nitro-network", Addr: "unix://" + filepath.Join(w.Instance.Dir, "n.sock"), Node: nodes[0]}
	flags := append(w.InitFlags(im), "--witness", "http://"+nodes[1].RPC)
	n.signer, err = noderig.InitSigner(ctx, w.Privyseal, filepath.Join(w.Dir, "signer"), n.chain.ID, []string{n.chain.Addr}, flags...)
	check(t, err)
	text, err := n.signer.Key(ctx, "json")
	check(t, err)
	n.chain.Key, err = pubkey.ParseJSON([]byte(text))
	check(t, err)
	for _, node := range nodes {
		check(t, node.Configure("consensus", "timeout_commit", blockTime.String()))
		check(t, node.EditGenesis(func(g *noderig.Genesis) {
			g.SetChainID(n.chain.ID)
			g.SetValidator(0, []byte(text), string(n.chain.Key.Type()))
		}))
	}
	check(t, n.signer.Start())
	t.Cleanup(func() {
		n.signer.Stop(time.Minute)
		story.Tail(t, n.signer.Process)
	})
	story.StartNode(t, n.chain.Node, n.chain.Addr)
	for _, node := range nodes[1:validators] {
		check(t, node.Start(""))
		t.Cleanup(func() { node.Stop(time.Minute) })
	}
	return n
}

// signsAgain returns the height of the first block that our validator signs after
// one that it did not sign, or three blocks on if it signs all.
func (n *network) signsAgain(from int64) int64 {
	n.t.Helper()
	missed := false
	for h := from; ; h++ {
		switch is, _ := n.signed(h); {
		case !is:
			missed = true
		case missed || h == from+3:
			return h
		}
	}
}

// missed returns how many of the blocks our validator did not sign, and how many of those
// were voted for when there was an enclave already.
func (n *network) missed(first, last int64, ready time.Time) (all, late int) {
	n.t.Helper()
	for h := first; h <= last; h++ {
		is, voted := n.signed(h)
		if is {
			continue
		}
		all++
		if voted.After(ready) {
			late++
		}
	}
	return all, late
}

// signed reports whether the commit of a block has our validator's signature, and when
// the first of the others signed it.
func (n *network) signed(height int64) (ok bool, voted time.Time) {
	n.t.Helper()
	address := fmt.Sprintf("%X", n.chain.Key.Address())
	check(n.t, n.nodes[1].WaitHeight(n.ctx, height+1))
	commit, err := n.nodes[1].Commit(n.ctx, height)
	check(n.t, err)
	signBytes, signature, ok := commit.SignatureOf(address)
	if ok && !n.chain.Key.Verify(signBytes, signature) {
		n.t.Fatalf("the commit of block %d has a signature that the key does not verify", height)
	}
	for _, s := range commit.Signatures {
		if len(s.Signature) > 0 && s.Address.String() != address && (voted.IsZero() || s.Timestamp.Before(voted)) {
			voted = s.Timestamp
		}
	}
	return ok, voted
}

// readySince returns when the host's log says that an enclave signs, for the first time
// since then.
func (n *network) readySince(began time.Time) time.Time {
	n.t.Helper()
	log, err := os.ReadFile(n.signer.Log)
	check(n.t, err)
	for line := range bytes.Lines(log) {
		var entry struct {
			Time    time.Time `json:"time"`
			Message string    `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Message == "the enclave signs for this chain" && entry.Time.After(began) {
			return entry.Time
		}
	}
	n.t.Fatal("the log does not tell of an enclave that signs")
	return time.Time{}
}
