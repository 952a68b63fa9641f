package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
)

// Three hosts of one validator of four, each with a signer, a YubiHSM and a node, share one
// mark in etcd, while testdata/several-hosts.txt happens to them. The devices say what was
// signed: never two messages at one place. What a node's application says beside a precommit
// is never the same twice: each node has its own signed, beside the same precommit. In `make test-peers`, which has the machine for
// itself, there is more time between what happens, it takes a thousand blocks, and a
// precommit is signed at each height.
func TestSeveralHosts(t *testing.T) {
	long := os.Getenv("PRIVYSEAL_EVERY_VERSION") == "1"
	if !long {
		t.Parallel()
	}
	h := newHosts(t, long)
	text, err := os.ReadFile("testdata/several-hosts.txt")
	check(t, err)
	check(t, h.nodes[5].WaitHeight(h.ctx, 6))
	first := h.height()
	h.ledger.listens.Store(true)
	for line := range strings.Lines(string(text)) {
		h.do(strings.TrimSpace(line))
	}
	h.awaitExtensions()
	last := h.height()
	h.await(1) // then all applications have seen the last block
	h.judge(first, last)
}

// hosts are those that share a mark.
type hosts struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	etcd    *etcdtest.Cluster
	hurt    int // the member that something happened to
	long    bool
	ledger  *ledger
	key     pubkey.Key
	signers []*rig.Signer
	nodes   []*rig.Node // ours, and those of the other validators
	apps    []*app      // of the nodes
}

const hostsChain = "several-1"

func newHosts(t *testing.T, long bool) *hosts {
	t.Helper()
	h := &hosts{t: t, long: long, ctx: within(t, 10*time.Minute), dir: newDir(t), etcd: etcdtest.Start(t, etcdtest.Options{}),
		ledger: newLedger()}
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
	var text []byte
	h.key, text = showKey(h.ctx, t, h.signers[0])
	for i, n := range h.nodes {
		if long { // a commit waits for the slowest as long as the disks of this machine need
			check(t, n.Configure("consensus", "timeout_commit", "150ms"))
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
	startSigner(h.t, s)
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

// signsOn waits until a device has signed at a step where none had before.
func (h *hosts) signsOn(before int) {
	h.t.Helper()
	for ; h.ledger.count() == before; time.Sleep(5 * time.Millisecond) {
		if h.ctx.Err() != nil {
			h.t.Fatal("nothing is signed any more")
		}
	}
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

// do does a line of the plan.
func (h *hosts) do(line string) {
	h.t.Helper()
	if line == "" || strings.HasPrefix(line, "#") {
		return
	}
	h.ledger.event(line)
	words := strings.Fields(line)
	if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
		if h.long {
			n *= 25
		}
		before := h.ledger.count()
		h.await(n)
		h.signsOn(before)
		return
	}
	last := words[len(words)-1]
	switch {
	case strings.Contains(line, "etcd"):
		h.member(line, last)
	case words[0] == "signer" && last == "killed":
		s := h.signers[index(h.t, words[1])]
		check(h.t, s.Signal(os.Kill))
		<-s.Done()
	case words[0] == "signer":
		check(h.t, h.signers[index(h.t, words[1])].Start())
	case words[0] == "node" && last == "killed":
		n := h.nodes[index(h.t, words[1])]
		check(h.t, n.Signal(os.Kill))
		<-n.Done()
	case words[0] == "node":
		i := index(h.t, words[1])
		check(h.t, h.nodes[i].StartUntilUp(h.ctx, "unix://"+h.socket(i)))
	default:
		h.t.Fatalf("what is %q?", line)
	}
}

func index(t *testing.T, word string) int {
	n, err := strconv.Atoi(word)
	check(t, err)
	return n - 1
}

// member does something to a member of etcd.
func (h *hosts) member(line, last string) {
	if last == "killed" || last == "hangs" {
		if h.hurt = h.etcd.Leader(h.t); strings.Contains(line, "follower") {
			h.hurt = h.etcd.Follower(h.t)
		}
	}
	switch last {
	case "killed":
		h.etcd.Kill(h.hurt)
	case "starts":
		h.etcd.Restart(h.t, h.hurt)
	case "hangs":
		h.etcd.Pause(h.t, h.hurt)
	default:
		h.etcd.Continue(h.t, h.hurt)
	}
}

// judge compares what was signed, and what the chain has of it, with what has to be.
func (h *hosts) judge(first, last int64) {
	h.t.Helper()
	signed := countCommits(h.ctx, h.t, h.nodes[5], h.key, first+1, last)
	// A vote waits for an election in etcd, and others make blocks meanwhile.
	if total := last - first - 1; h.long && signed*100 < total*99 {
		h.t.Errorf("our validator is in %d of %d commits", signed, total)
	}
	h.t.Logf("our validator is in %d of %d commits", signed, last-first-1)
	h.judgeExtensions(first, last, signed)
	for _, height := range h.ledger.judge(h.t, first+1, last) {
		if h.long {
			h.t.Errorf("no precommit was signed at height %d", height)
		}
		h.explain(height)
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
