package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// Three hosts of one validator of four, each with a signer, a YubiHSM and a node, share one
// mark in etcd, while testdata/several-hosts.txt happens to them. The devices say what was
// signed: never two messages at one place. What a node's application says beside a precommit
// is never the same twice: each node has its own signed, beside the same precommit. No witness
// takes one host for a stranger to another. In `make test-peers`, which has the machine for
// itself, all of the plan happens twice, it takes a thousand blocks, and a precommit is signed
// at each height.
func TestSeveralHosts(t *testing.T) {
	long := os.Getenv("PRIVYSEAL_EVERY_VERSION") == "1"
	if !long {
		t.Parallel()
	}
	h := newHosts(t, long)
	check(t, h.nodes[5].WaitHeight(h.ctx, 6))
	first := h.height()
	h.suffersAll()
	for long && h.lit(first, h.height()) < longRun {
		h.await(10)
	}
	h.awaitExtensions()
	last := h.height()
	h.await(1) // then all applications have seen the last block
	h.judge(first, last)
}

// longRun is how many heights a long run has at the least at which somebody could sign.
const longRun = 1000

// hosts are those that share a mark.
type hosts struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	etcd    *etcdtest.Cluster
	long    bool
	ledger  *ledger
	key     pubkey.Key
	signers []*rig.Signer
	nodes   []*rig.Node // ours, and those of the other validators
	apps    []*app      // of the nodes
	ill     ills
	dark    []span // where nobody could sign
}

// span is heights from one to before another.
type span struct{ from, to int64 }

const hostsChain = "several-1"

func newHosts(t *testing.T, long bool) *hosts {
	t.Helper()
	h := &hosts{t: t, long: long, ctx: story.Within(t, 10*time.Minute), ill: newIlls(), dir: newDir(t), etcd: etcdtest.Start(t, etcdtest.Options{}),
		ledger: newLedger()}
	t.Cleanup(func() { h.ledger.conflicts(t) })
	nodes, err := rig.InitNetwork(h.ctx, "v0.38.26", filepath.Join(h.dir, "net"), 4, 2)
	need(t, err)
	// The first validator, and the two that are none, are the nodes of our key.
	h.nodes = []*rig.Node{nodes[0], nodes[4], nodes[5], nodes[1], nodes[2], nodes[3]}
	check(t, os.WriteFile(filepath.Join(h.dir, "password"), []byte("four"), 0o600))
	var seed [32]byte
	rand.Read(seed[:])
	for i := range 3 {
		h.addHost(i, sha256.Sum256(seed[:]))
	}
	h.ledger.listens.Store(true) // the devices were tried out
	var text []byte
	h.key, text = showKey(h.ctx, t, h.signers[0])
	for i, n := range h.nodes {
		if long { // the pace of a fast chain
			check(t, n.Configure("consensus", "timeout_commit", "700ms"))
		}
		var a *app
		a, n.App = serveApp(t, h.dir, fmt.Sprint("app-", i+1))
		h.apps = append(h.apps, a)
		check(t, n.EditGenesis(func(g *rig.Genesis) {
			g.SetChainID(hostsChain)
			g.SetValidator(0, text, string(h.key.Type()))
			g.EnableVoteExtensions()
		}))
		if i < 3 {
			startNode(t, n, "unix://"+h.socket(i))
		} else {
			startNode(t, n, "")
		}
	}
	return h
}

func (h *hosts) socket(i int) string { return filepath.Join(h.dir, fmt.Sprint(i+1, ".sock")) }

// addHost makes and starts a signer: the first one makes the state, the others join it.
func (h *hosts) addHost(i int, secret [32]byte) {
	h.t.Helper()
	device := yubihsmtest.New(h.t, yubihsmtest.Options{Signs: h.ledger.made})
	device.ProvisionAuth(h.t, signerAuth, "four", yubihsmtest.CanSignEdDSA)
	device.Provision(h.t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 1, Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA}, secret[:])
	// What a host remembers of its signers is another host's business.
	own := filepath.Join(h.dir, fmt.Sprint("privyseal-", i+1))
	check(h.t, os.WriteFile(own, fmt.Appendf(nil, "#!/bin/sh\nPRIVYSEAL_RUN=%s exec %s \"$@\"\n", own+"-run", program), 0o700))
	args := []string{"--provider", "yubihsm", "--yubihsm-take", "--yubihsm-key-id", "1", "--yubihsm-auth-key", fmt.Sprint(signerAuth),
		"--yubihsm-password-file", filepath.Join(h.dir, "password"), "--yubihsm-device", device.URL(), "--yes", "--store", "etcd",
		"--witness", "http://" + h.nodes[3].RPC, "--witness", "http://" + h.nodes[i].RPC,
		"--etcd-ca-file", h.etcd.Signer.CA, "--etcd-certificate-file", h.etcd.Signer.Certificate, "--etcd-key-file", h.etcd.Signer.Key}
	for n, urls := 0, h.etcd.Endpoints(); n < len(urls); n++ {
		args = append(args, "--etcd-endpoints", urls[(i+n)%len(urls)]) // each has another member first
	}
	if i == 0 {
		args = append(args, "--fresh-state")
	} else {
		args = append(args, "--join-state")
	}
	s, err := rig.InitSigner(h.ctx, own, filepath.Join(h.dir, fmt.Sprint("signer-", i+1)), hostsChain, []string{"unix://" + h.socket(i)}, args...)
	check(h.t, err)
	h.signers = append(h.signers, s)
	story.StartSigner(h.t, s)
}

// height is that of a validator that is not ours.
func (h *hosts) height() int64 {
	height, err := h.nodes[5].Height(h.ctx)
	check(h.t, err)
	return height
}

// await waits for blocks.
func (h *hosts) await(more int64) {
	h.t.Helper()
	check(h.t, h.nodes[5].WaitHeight(h.ctx, h.height()+more))
}

// awaitExtensions waits until a block carries our extension, and two nodes had different ones
// signed beside one precommit.
func (h *hosts) awaitExtensions() {
	h.t.Helper()
	for ; len(h.carried()) == 0 || h.ledger.extendedTwice() == 0; h.await(1) {
	}
}

// carried returns what blocks carry of our extensions, as a validator that is not ours saw it.
func (h *hosts) carried() map[int64]extension { return h.apps[5].of(address(h.t, h.key)) }

// isDark reports whether nobody could sign at a height.
func (h *hosts) isDark(height int64) bool {
	return slices.ContainsFunc(h.dark, func(s span) bool { return s.from <= height && height < s.to })
}

// lit returns at how many heights between two somebody could sign.
func (h *hosts) lit(first, last int64) int64 {
	n := last - first - 1
	for _, s := range h.dark {
		n -= s.to - s.from
	}
	return n
}

// judge compares what was signed, and what the chain has of it, with what has to be.
func (h *hosts) judge(first, last int64) {
	h.t.Helper()
	signed := countCommits(h.ctx, h.t, h.nodes[5], h.key, first+1, last)
	h.judgeExtensions(first, last, signed)
	total := h.lit(first, last)
	for _, s := range h.dark {
		signed -= countCommits(h.ctx, h.t, h.nodes[5], h.key, s.from, s.to)
	}
	h.t.Logf("our validator is in %d of %d commits, and nobody could sign at %d heights", signed, total, last-first-1-total)
	// A vote waits for an election in etcd, and others make blocks meanwhile.
	if h.long && (total < longRun || signed*100 < total*99) {
		h.t.Errorf("our validator is in %d of %d commits", signed, total)
	}
	for _, height := range h.ledger.judge(h.t, first+1, last) {
		if h.isDark(height) {
			continue
		}
		if h.long {
			h.t.Errorf("no precommit was signed at height %d: %q", height, h.ledger.near(height))
		}
		h.explain(height)
	}
	for i, s := range h.signers {
		h.noAlarm(i, s)
	}
	h.signersRun()
}

// noAlarm checks that no witness has alarmed a signer, at any time.
func (h *hosts) noAlarm(i int, s *rig.Signer) {
	h.t.Helper()
	proofs, err := os.ReadDir(filepath.Join(s.Home, "evidence"))
	if err == nil && len(proofs) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("signer %d has %d proofs of another signer: %v", i+1, len(proofs), err)
	}
	log, err := os.ReadFile(s.Log)
	check(h.t, err)
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "ANOTHER SIGNER") || strings.Contains(line, "false claim") {
			h.t.Errorf("signer %d says %s", i+1, line)
		}
	}
}

// judgeExtensions compares the extensions that were signed with what our nodes said, and with
// what blocks carry: one for each commit with a signature of ours.
func (h *hosts) judgeExtensions(first, last, signed int64) {
	h.t.Helper()
	carried := h.carried()
	maps.DeleteFunc(carried, func(height int64, _ extension) bool { return height <= first || height >= last })
	wrong := h.ledger.judgeExtensions(h.key, carried, func(height int64, extension []byte) bool {
		return slices.ContainsFunc(h.apps[:3], func(a *app) bool { return a.hasSaid(height, extension) })
	})
	for _, a := range h.apps {
		wrong = append(wrong, a.refused()...)
	}
	if n := int64(len(carried)); n != signed {
		wrong = append(wrong, fmt.Sprintf("%d extensions of ours in blocks, for %d commits with a signature of ours", n, signed))
	}
	if len(wrong) > 0 {
		h.t.Errorf("%q", wrong)
	}
	h.t.Logf("beside %d precommits more than one extension was signed", h.ledger.extendedTwice())
}

// explain logs what the signers said at a height.
func (h *hosts) explain(height int64) {
	for i, s := range h.signers {
		log, err := os.ReadFile(s.Log)
		check(h.t, err)
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, fmt.Sprintf(`"height":%d,`, height)) {
				h.t.Logf("signer %d: %s", i+1, strings.TrimSpace(line))
			}
		}
	}
}
