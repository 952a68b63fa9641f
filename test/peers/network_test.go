// Package peers_test has other signers' own programs sign a real chain, and privyseal
// take over from each while the nodes run on. It is a Go module of its own because it
// is not part of `make test`: what it runs takes Rust and long builds (`scripts/setup
// peers`, `make test-peers`).
package peers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
)

// program is the privyseal under test.
var program string

func TestMain(m *testing.M) {
	dir, err := rig.NewDir()
	if err != nil {
		log.Fatal(err)
	}
	program = filepath.Join(dir, "privyseal")
	os.Setenv("PRIVYSEAL_RUN", filepath.Join(dir, "run")) // not the host's own
	build := exec.Command("go", "build", "-o", program, "./cmd/privyseal")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		log.Fatalf("cannot build privyseal: %v\n%s", err, out)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// network is four validators, of which ours signs by a signer outside. Beside its node
// there may be others that ask for the same signer: the first validators places of
// nodes are the validators, and ours is the first.
type network struct {
	ctx     context.Context
	t       *testing.T
	id, dir string
	nodes   []*rig.Node
	privval []string // where ours and the sentries listen for their signer
	signer  *rig.Signer
	key     pubkey.Key
	address string
}

const validators = 4

func newNetwork(t *testing.T, id, version string, sentries int) *network {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Minute, errors.New("not within 20 minutes"))
	t.Cleanup(cancel)
	dir, err := rig.NewDir()
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &network{ctx: ctx, t: t, id: id, dir: dir, signer: &rig.Signer{Program: program, Home: filepath.Join(dir, "signer"), Listen: freeAddr(t)}}
	t.Cleanup(n.stop)
	n.nodes, err = rig.InitNetwork(ctx, version, filepath.Join(dir, "net"), validators, sentries)
	check(t, err)
	for _, node := range n.nodes {
		check(t, node.Configure("consensus", "timeout_commit", "400ms"))
		check(t, node.EditGenesis(func(g *rig.Genesis) { g.SetChainID(id) }))
	}
	for range 1 + sentries {
		n.privval = append(n.privval, "tcp://"+freeAddr(t))
	}
	var file struct {
		Public json.RawMessage `json:"pub_key"`
	}
	text, err := os.ReadFile(n.keyFile())
	check(t, err)
	check(t, json.Unmarshal(text, &file))
	n.key, err = pubkey.ParseJSON(file.Public)
	check(t, err)
	n.address = fmt.Sprintf("%X", n.key.Address())
	return n
}

// keyFile is the key of our validator, as its node made it.
func (n *network) keyFile() string {
	return filepath.Join(n.nodes[0].Home, "config", "priv_validator_key.json")
}

// start starts all nodes: ours and the sentries wait for the signer that runs already.
func (n *network) start() {
	n.t.Helper()
	for _, node := range n.nodes[1:validators] {
		check(n.t, node.Start(""))
	}
	check(n.t, n.nodes[0].StartUntilUp(n.ctx, n.privval[0]))
	for i, node := range n.nodes[validators:] {
		check(n.t, node.StartUntilUp(n.ctx, n.privval[1+i]))
	}
}

// stop ends all that still runs: a node hangs that is stopped after its signer.
func (n *network) stop() {
	for _, node := range n.nodes {
		if node.Process != nil {
			node.Stop(time.Minute)
			tail(n.t, node.Process)
		}
	}
	if n.signer.Process != nil {
		if err := n.signer.Stop(time.Minute); err != nil {
			n.t.Errorf("privyseal did not end with status 0 at SIGTERM: %v", err)
		}
		tail(n.t, n.signer.Process)
	}
}

// signsFrom returns the height of the first block, from that height on, whose commit
// has our validator's signature.
func (n *network) signsFrom(height int64) int64 {
	n.t.Helper()
	for ; ; height++ {
		check(n.t, n.nodes[0].WaitHeight(n.ctx, height+1))
		commit, err := n.nodes[0].Commit(n.ctx, height)
		check(n.t, err)
		signBytes, signature, ok := commit.SignatureOf(n.address)
		if ok && !n.key.Verify(signBytes, signature) {
			n.t.Fatalf("the commit of block %d has a signature that the key does not verify", height)
		}
		if ok {
			return height
		}
	}
}

// signs waits until so many blocks have come that our validator signed.
func (n *network) signs(blocks int) (height int64) {
	n.t.Helper()
	height, err := n.nodes[0].Height(n.ctx)
	check(n.t, err)
	for range blocks {
		height = n.signsFrom(height + 1)
	}
	return height
}

// unpunished fails if a block up to that height punishes a validator that signed twice.
func (n *network) unpunished(height int64) {
	n.t.Helper()
	for h := int64(1); h <= height; h++ {
		found, err := n.nodes[0].Evidence(n.ctx, h)
		check(n.t, err)
		if found > 0 {
			n.t.Errorf("block %d has evidence of a double sign", h)
		}
	}
}

// place is where a vote or proposal stands: step 1 is the proposal, 2 the prevote, 3 the
// precommit.
type place struct {
	height int64
	round  int32
	step   int
}

func (p place) above(q place) bool {
	switch {
	case p.height != q.height:
		return p.height > q.height
	case p.round != q.round:
		return p.round > q.round
	}
	return p.step > q.step
}

// readPlace reads the state of another signer, where a proposal has the step first.
func readPlace(t *testing.T, path string, first int) place {
	t.Helper()
	var state struct {
		Height int64 `json:"height,string"`
		Round  int32 `json:"round,string"`
		Step   int   `json:"step"`
	}
	text, err := os.ReadFile(path)
	check(t, err)
	check(t, json.Unmarshal(text, &state))
	return place{state.Height, state.Round, state.Step - first + 1}
}

// takeOver has privyseal take the place of a signer that has stopped, with nothing but
// `privyseal migrate` and `start`. Its mark has to be at last or above, the last thing that
// the other one signed, and all that it signs above.
func (n *network) takeOver(last place, args ...string) {
	n.t.Helper()
	s := n.signer
	out, err := rig.Output(n.ctx, program, append(append([]string{"migrate"}, args...), "--home", s.Home, "--yes")...)
	check(n.t, err)
	if !strings.Contains(out, n.address) {
		n.t.Errorf("it took over another key than %s:\n%s", n.address, out)
	}
	if mark := n.mark(s.Home); last.above(mark) {
		n.t.Fatalf("the mark that it took over is %v, and %v had been signed", mark, last)
	}
	for key, value := range map[string]string{"listen": s.Listen, "level": "debug", "format": "json"} {
		check(n.t, s.Configure(key, fmt.Sprintf("%q", value)))
	}
	check(n.t, s.Start())
	height := n.signs(10)
	n.unpunished(height)
	signed := n.allAbove(s.Log, last)
	n.t.Logf("the other signer ended at %v; %d signatures of ours follow, up to block %d", last, signed, height)
	if signed < 20 {
		n.t.Errorf("its log tells of %d signatures in 10 blocks", signed)
	}
}

// steps are those of a place by the name that privyseal gives them.
var steps = map[string]int{"proposal": 1, "prevote": 2, "precommit": 3}

var shownMark = regexp.MustCompile(`mark +height (\d+), round (\d+), (\w+)`)

// mark returns the mark of a signer that does not run.
func (n *network) mark(home string) place {
	n.t.Helper()
	out, err := rig.Output(n.ctx, program, "state", "show", "--home", home)
	check(n.t, err)
	m := shownMark.FindStringSubmatch(out)
	if m == nil {
		n.t.Fatalf("no mark in\n%s", out)
	}
	height, err := strconv.ParseInt(m[1], 10, 64)
	check(n.t, err)
	round, err := strconv.ParseInt(m[2], 10, 32)
	check(n.t, err)
	return place{height, int32(round), steps[m[3]]}
}

// allAbove returns how many signatures a log of privyseal shows, and fails if one is
// at or below last, or if there are two of one place. The same once more, for another
// node, may stand in front of the first one.
func (n *network) allAbove(path string, last place) int {
	n.t.Helper()
	text, err := os.ReadFile(path)
	check(n.t, err)
	signed := map[place]bool{}
	for line := range strings.Lines(string(text)) {
		s, ok := rig.ParseSigned([]byte(line))
		if !ok {
			continue
		}
		at := place{s.Height, s.Round, steps[s.Kind]}
		switch {
		case s.Repeated && !last.above(at):
		case at.step == 0 || !at.above(last) || signed[at]:
			n.t.Fatalf("it signed at %v; the other signer's last is %v: %s", at, last, line)
		default:
			signed[at] = true
		}
	}
	return len(signed)
}

// refused has `privyseal migrate` fail with that text and write nothing.
func (n *network) refused(want string, args ...string) {
	n.t.Helper()
	home := filepath.Join(n.dir, "none")
	_, err := rig.Output(n.ctx, program, append(append([]string{"migrate"}, args...), "--home", home, "--yes")...)
	if err == nil || !strings.Contains(err.Error(), want) {
		n.t.Fatalf("it says %v, want %s", err, want)
	}
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		n.t.Fatalf("it refused, and wrote %s: %v", home, err)
	}
}

// startOld starts a program of another signer. It returns what stops it as its service
// would.
func (n *network) startOld(name, dir, program string, args ...string) (stop func()) {
	n.t.Helper()
	p, err := rig.StartProcess(name, filepath.Join(dir, "log"), "env", append([]string{"-C", dir, program}, args...)...)
	check(n.t, err)
	n.t.Cleanup(func() { p.Stop(time.Minute); tail(n.t, p) })
	return func() {
		p.Stop(time.Minute)
		select {
		case <-p.Done():
		default:
			n.t.Fatalf("%s runs on", name)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := rig.FreePort()
	check(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func tail(t *testing.T, p *rig.Process) {
	if t.Failed() {
		t.Logf("the log of %s ends with\n%s", p.Name, p.Tail(30))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
