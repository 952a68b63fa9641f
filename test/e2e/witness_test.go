package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/internal/witness"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// witnessVersions are those whose answers differ.
var witnessVersions = []string{"v0.34.35", "v0.38.26", "v0.40.0", "v1.0.1"}

// Four validators. The key of the first is used a second time, on another host, as
// operators have done it: by a signer that goes through a quarantine, by one that
// does not, and by an old state that somebody adopts. Only the chain can
// know, and the witness does.
func TestWitness(t *testing.T) {
	for _, version := range witnessVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			n := newWitnessed(story.Within(t, 2*time.Minute), t, version, 4)
			n.quarantineFindsTheOther()
			n.oldStateIsRefused()
			n.alarm()
		})
	}
}

// A lone validator, and one without which the chain stands still, come back after
// every restart, with a witness that is their own node.
func TestWitnessComesBack(t *testing.T) {
	for _, version := range turnOf(t, witnessVersions) {
		for _, validators := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, one of %d", version, validators), func(t *testing.T) {
				t.Parallel()
				comesBack(newWitnessed(story.Within(t, 2*time.Minute), t, version, validators))
			})
		}
	}
}

// turnOf returns the version whose turn it is: another one at each commit, and all of
// them for `make test-peers`.
func turnOf(t *testing.T, versions []string) []string {
	if os.Getenv("PRIVYSEAL_EVERY_VERSION") == "1" {
		return versions
	}
	count, err := exec.CommandContext(t.Context(), "git", "rev-list", "--count", "HEAD").Output()
	if err != nil {
		return versions[:1] // not a checkout
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(count)))
	check(t, err)
	at := n % len(versions)
	return versions[at : at+1]
}

func comesBack(n *witnessed) {
	n.t.Helper()
	for range 3 {
		n.restart()
	}
	// The chain waits for us, so the quarantine ends without a block.
	check(n.t, n.signer.Stop(time.Minute))
	check(n.t, witness.SetQuarantine(n.state(n.signer), "a test"))
	n.start(n.signer)
	n.goesOn()
	if f, err := witness.ReadFlag(n.state(n.signer)); err != nil || f.Quarantine {
		n.t.Errorf("after the quarantine: %+v, %v", f, err)
	}
}

// witnessed is a network whose first validator has a signer with a witness. The last
// node is not a validator: the place of a second signer.
type witnessed struct {
	ctx     context.Context
	t       *testing.T
	id, dir string
	nodes   []*rig.Node
	signer  *rig.Signer
	looks   *looks // what the signer's witness is shown
	key     pubkey.Key
	old     string // an old copy of the signer's home
}

func newWitnessed(ctx context.Context, t *testing.T, version string, validators int) *witnessed {
	n := &witnessed{ctx: ctx, t: t, id: "e2e-witness", dir: newDir(t)}
	var err error
	n.nodes, err = rig.InitNetwork(ctx, version, filepath.Join(n.dir, "net"), validators, 1)
	need(t, err)
	privval := "unix://" + filepath.Join(n.dir, "a.sock")
	seen := n.nodes[1] // another validator's, or the full node's
	if validators < 4 {
		seen = n.nodes[0]
	}
	n.looks = newLooks(t, seen.RPC)
	n.signer, err = rig.InitSigner(ctx, program, filepath.Join(n.dir, "signer"), n.id, []string{privval}, "--witness", n.looks.URL)
	check(t, err)
	var text json.RawMessage
	n.key, text = showKey(ctx, t, n.signer)
	for _, node := range n.nodes {
		check(t, node.Configure("consensus", "timeout_commit", "400ms"))
		check(t, node.EditGenesis(func(g *rig.Genesis) {
			g.SetChainID(n.id)
			g.SetValidator(0, text, string(n.key.Type()))
		}))
	}
	n.start(n.signer)
	startNode(t, n.nodes[0], privval)
	for _, node := range n.nodes[1:validators] {
		startNode(t, node, "")
	}
	if validators >= 4 {
		check(t, n.nodes[1].WaitHeight(ctx, 4))
		n.old = filepath.Join(n.dir, "old")
		n.output("cp", "-a", n.signer.Home, n.old)
		n.goesOn()
	}
	return n
}

// start starts a signer on a host of its own.
func (n *witnessed) start(s *rig.Signer) {
	p, err := rig.StartProcess("privyseal in "+filepath.Base(s.Home), filepath.Join(s.Home, "privyseal.log"),
		"env", "PRIVYSEAL_RUN="+s.Home+"-run", program, "start", "--home", s.Home)
	check(n.t, err)
	s.Process = p
	n.t.Cleanup(func() { p.Stop(time.Minute); story.Tail(n.t, p) })
}

// output runs a command on the host of the old home.
func (n *witnessed) output(name string, args ...string) {
	n.t.Helper()
	cmd := exec.CommandContext(n.ctx, name, args...)
	cmd.Env = append(os.Environ(), "PRIVYSEAL_RUN="+n.old+"-run")
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (n *witnessed) state(s *rig.Signer) string {
	return filepath.Join(s.Home, "state", n.id+".mark")
}

// goesOn waits for some blocks more.
func (n *witnessed) goesOn() int64 {
	n.t.Helper()
	h, err := n.nodes[0].Height(n.ctx)
	if err != nil {
		h = 0
	}
	check(n.t, n.nodes[0].WaitHeight(n.ctx, h+4))
	return h + 4
}

func (n *witnessed) restart() {
	n.t.Helper()
	n.goesOn()
	check(n.t, n.signer.Stop(time.Minute))
	n.start(n.signer)
	n.goesOn()
}

// second makes a signer with the same key elsewhere, for the last node.
func (n *witnessed) second(name string, more ...string) (s *rig.Signer, privval string) {
	n.t.Helper()
	privval = "unix://" + filepath.Join(n.dir, name+".sock")
	more = append(more, "--yes", "--import-key", filepath.Join(n.signer.Home, "keys", n.id+".key"))
	s, err := rig.InitSigner(n.ctx, program, filepath.Join(n.dir, name), n.id, []string{privval}, more...)
	check(n.t, err)
	return s, privval
}

// ends waits for a signer to end because an operator must act, and returns its log.
func (n *witnessed) ends(s *rig.Signer) string {
	n.t.Helper()
	check(n.t, s.WaitMustAct(n.ctx))
	text, err := os.ReadFile(s.Log)
	check(n.t, err)
	return string(text)
}

// neverSigned fails if a log shows a signature.
func (n *witnessed) neverSigned(name, log string) {
	n.t.Helper()
	for line := range strings.Lines(log) {
		if s, ok := rig.ParseSigned([]byte(line)); ok && s.Height > 0 {
			n.t.Fatalf("%s signed %+v", name, s)
		}
	}
}

// proof returns the height of the one proof of a signer, whose signature has to verify.
func (n *witnessed) proof(s *rig.Signer) (height int64) {
	n.t.Helper()
	p, err := s.Proof()
	check(n.t, err)
	if !n.key.Verify(p.SignBytes, p.Signature) {
		n.t.Errorf("the proof does not verify: %+v", p)
	}
	return p.Height
}

// A second signer with a witness finds the first one before it signs anything.
func (n *witnessed) quarantineFindsTheOther() {
	n.t.Helper()
	s, privval := n.second("quarantined", "--after-height", "90000", "--witness", "http://"+n.nodes[2].RPC)
	n.start(s)
	check(n.t, n.nodes[4].Start(privval))
	defer n.nodes[4].Stop(time.Minute)
	log := n.ends(s)
	n.neverSigned("the second signer", log)
	if !strings.Contains(log, "in quarantine") || !strings.Contains(log, "ANOTHER SIGNER") {
		n.t.Errorf("the log:\n%s", log)
	}
	n.proof(s)
	// The first one had its own signatures in the commits all the time.
	n.goesOn()
}

// An old state is refused although an operator adopts it.
func (n *witnessed) oldStateIsRefused() {
	n.t.Helper()
	s := &rig.Signer{Program: program, Home: n.old}
	check(n.t, s.Configure("listen", `""`))
	os.Remove(filepath.Join(n.old, "privyseal.log"))
	n.output(program, "state", "adopt", "--home", n.old, "--yes")
	n.start(s)
	log := n.ends(s)
	n.neverSigned("the old state", log)
	n.proof(s)
}

// Where the second signer has no witness, the first one's rings. Of two votes of a
// validator the network keeps the one that comes first: the first signer's node is
// down, so that it is the second one's.
func (n *witnessed) alarm() {
	n.t.Helper()
	n.nodes[0].Stop(time.Minute)
	h, err := n.nodes[1].Height(n.ctx)
	check(n.t, err)
	s, privval := n.second("blind", "--after-height", fmt.Sprint(h+10))
	n.start(s)
	n.looks.forget()
	check(n.t, n.nodes[4].Start(privval))
	defer n.nodes[4].Stop(time.Minute)
	n.ends(n.signer)
	n.provedAtFirstSight(h + 11)
	// For good: a restart does not forget it.
	n.start(n.signer)
	n.ends(n.signer)
}

// provedAtFirstSight fails unless the one proof of the signer is the first commit with a
// vote of a second signer, from a height on, that its witness was shown, and no look went by
// one that the chain had.
func (n *witnessed) provedAtFirstSight(from int64) {
	n.t.Helper()
	at := n.proof(n.signer)
	shown, passed := n.looks.shown(func(c *rig.Commit) bool { return c.Height >= from && n.signed(c) })
	if shown != at {
		n.t.Fatalf("proved at %d, and the first commit that shows it is that of %d", at, shown)
	}
	first := from
	for ; first < at; first++ {
		commit, err := n.nodes[1].Commit(n.ctx, first)
		check(n.t, err)
		if n.signed(commit) {
			break
		}
	}
	n.t.Logf("the second signer signs from %d on, is in the commit of %d, and was proved by that of %d; the look before saw the chain at %d", from, first, at, passed)
	// The commit of a tip is not final: the vote may come into it later.
	if passed > first {
		n.t.Errorf("proved at %d: a look at the chain at %d did not see the commit of %d", at, passed, first)
	}
}

// signed reports whether a commit has a vote of our key, for its block or for nil.
func (n *witnessed) signed(c *rig.Commit) bool {
	for _, vote := range []func(string) ([]byte, []byte, bool){c.SignatureOf, c.NilOf} {
		if signBytes, signature, ok := vote(address(n.t, n.key)); ok && n.key.Verify(signBytes, signature) {
			return true
		}
	}
	return false
}
