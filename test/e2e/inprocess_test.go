package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/tools"
)

// inProcess are the modules of test/inprocess by the version that they build a node of,
// with a file of modules where that is not their own.
var inProcess = []struct{ version, folder, modules string }{
	{"v0.34.35", "v034", ""},
	{"v0.37.18", "v037", ""},
	{"v0.38.26", "v038", ""},
	{"v0.39.4", "v038", "v039.mod"},
	{"v0.40.0", "v038", "v040.mod"},
	{"v1.0.1", "v1", ""},
	{"v2.0.0-rc1", "v2", ""},
}

// Nodes that privyseal is compiled into make blocks, with vote extensions where there are
// any; end and are killed; are refused a state that was put back, and a second signer; and
// their key goes on in a process of its own.
func TestInProcess(t *testing.T) {
	var versions []string
	for _, m := range inProcess {
		versions = append(versions, m.version)
	}
	turn := turnOf(t, versions)
	for _, m := range inProcess {
		if len(turn) == 1 && turn[0] != m.version {
			continue
		}
		t.Run(m.version, func(t *testing.T) {
			t.Parallel()
			program := buildInside(t, m.folder, m.modules) // which takes minutes the first time
			n := newInside(story.Within(t, time.Minute), t, m.version, program)
			n.makesBlocks(n.ctx, t)
			n.isTheOnlySigner()
			n.comesBack(syscall.SIGTERM)
			n.comesBack(syscall.SIGKILL)
			n.refusesAnOldState()
			n.goesOnOutside()
		})
	}
}

// buildInside builds a node of a module in test/inprocess, and returns its path.
func buildInside(t *testing.T, folder, modules string) string {
	t.Helper()
	out := filepath.Join(newDir(t), "node")
	args := []string{"build", "-mod=readonly", "-buildvcs=false", "-o", out}
	if modules != "" {
		args = append(args, "-modfile="+modules)
	}
	if filepath.IsAbs(modules) {
		args[1] = "-mod=mod" // it was made here, and is not tidy
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
	cmd.Dir = filepath.Join("..", "inprocess", folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build a node: %v\n%s", err, text)
	}
	return out
}

// inside is a node with its signer inside, as a chain whose signer does not run.
type inside struct {
	*chain
	ctx context.Context
	t   *testing.T
}

// newInside starts a lone validator with a program that has privyseal in it.
func newInside(ctx context.Context, t *testing.T, version, program string) *inside {
	n := &inside{chain: &chain{setup: setup{version: version}, id: "e2e-inside"}, ctx: ctx, t: t}
	n.node = n.newNode(program)
	n.start()
	return n
}

func (n *inside) newNode(inside string) *rig.Node {
	n.t.Helper()
	dir := newDir(n.t)
	node, err := rig.InitNode(n.ctx, n.version, filepath.Join(dir, "node"))
	need(n.t, err)
	node.Use(inside)
	n.signer, err = rig.InitSigner(n.ctx, program, filepath.Join(node.Home, "privyseal"), n.id, []string{"unix://" + filepath.Join(dir, "n.sock")})
	check(n.t, err)
	key, text := showKey(n.ctx, n.t, n.signer)
	n.key = key
	check(n.t, node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(n.id)
		g.SetValidator(0, text, string(key.Type()))
		g.EnableVoteExtensions()
	}))
	return node
}

func (n *inside) start() {
	n.t.Helper()
	startNode(n.t, n.node, "")
}

// goesOn waits for some blocks more.
func (n *inside) goesOn() {
	n.t.Helper()
	check(n.t, n.node.WaitHeight(n.ctx, 1))
	h, err := n.node.Height(n.ctx)
	check(n.t, err)
	check(n.t, n.node.WaitHeight(n.ctx, h+3))
	verifyCommit(n.ctx, n.t, n.node, n.key, h+1)
}

// isTheOnlySigner starts a signer for the same home, which ends at once, and asks the
// signer inside for its status.
func (n *inside) isTheOnlySigner() {
	n.t.Helper()
	out, err := exec.CommandContext(n.ctx, program, "start", "--home", n.signer.Home).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another process has it open") {
		n.t.Errorf("a second signer: %v\n%s", err, out)
	}
	status, err := rig.Output(n.ctx, program, "status", "--home", n.signer.Home)
	check(n.t, err)
	if !strings.Contains(status, "inside") || !strings.Contains(status, n.id) {
		n.t.Errorf("status:\n%s", status)
	}
	n.goesOn()
}

func (n *inside) comesBack(end syscall.Signal) {
	n.t.Helper()
	check(n.t, n.node.Signal(end))
	<-n.node.Done()
	n.start()
	n.goesOn()
}

// refusesAnOldState puts the bytes of an earlier state back while the node is down. It
// ends with the reason and the way out, and goes on once the newest state is back.
func (n *inside) refusesAnOldState() {
	n.t.Helper()
	state := filepath.Join(n.signer.Home, "state", n.id+".mark")
	n.node.Stop(time.Minute)
	old, err := os.ReadFile(state)
	check(n.t, err)
	n.start()
	n.goesOn()
	n.node.Stop(time.Minute)
	check(n.t, os.WriteFile(state, old, 0o600))
	n.start()
	<-n.node.Done()
	log := n.node.Tail(50)
	if cure := fmt.Sprintf("privyseal state adopt --home %s --chain-id %s", n.signer.Home, n.id); !strings.Contains(log, cure) {
		n.t.Fatalf("no %q in\n%s", cure, log)
	}
	// It is the newest that the host knows of that is adopted, not what is there.
	_, err = rig.Output(n.ctx, program, "state", "adopt", "--home", n.signer.Home, "--yes")
	check(n.t, err)
	n.start()
	n.goesOn()
}

// goesOnOutside starts the same key and state in a process of its own, with the stock
// node.
func (n *inside) goesOnOutside() {
	n.t.Helper()
	n.node.Stop(time.Minute)
	stock, err := tools.Program("cometbft-"+n.version, "scripts/setup nodes")
	check(n.t, err)
	n.node.Use(stock)
	story.StartSigner(n.t, n.signer)
	startNode(n.t, n.node, "unix://"+filepath.Join(filepath.Dir(n.node.Home), "n.sock"))
	n.goesOn()
}
