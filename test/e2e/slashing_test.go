package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
)

// TestSlashings does what the operators did whose validators were slashed in public
// because a state was lost or moved, or a second copy of the key was alive: one
// script each, with privyseal in place of their signer, and real nodes. Each names
// the step at which it is refused.
func TestSlashings(t *testing.T) {
	_, err := tools.Program("cometbft-"+slashingVersion, "scripts/setup nodes")
	need(t, err)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/slashings",
		WorkdirRoot:         newDir(t),
		RequireExplicitExec: true,
		Setup:               prepareSlashing,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"chain": chainCommand, "node": nodeCommand, "signer": signerCommand, "exits": exits, "await": await,
		},
	})
}

const slashingVersion = "v0.38.26"

// slashing is the world of one script.
type slashing struct {
	ctx     context.Context
	nodes   map[string]*rig.Node
	signers map[string]*rig.Process
}

type slashingKey struct{}

func slashingOf(ts *testscript.TestScript) *slashing { return ts.Value(slashingKey{}).(*slashing) }

// prepareSlashing puts privyseal and cometbft into the path, and host records into
// a folder of the script's own.
func prepareSlashing(env *testscript.Env) error {
	bin := filepath.Join(env.WorkDir, "bin")
	node, err := tools.Program("cometbft-"+slashingVersion, "scripts/setup nodes")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	s := &slashing{ctx: ctx, nodes: map[string]*rig.Node{}, signers: map[string]*rig.Process{}}
	env.Values[slashingKey{}] = s
	env.Defer(func() {
		for _, n := range s.nodes {
			if n.Process != nil {
				n.Stop(5 * time.Second)
			}
		}
		for _, p := range s.signers {
			p.Stop(5 * time.Second)
		}
		cancel()
	})
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("PRIVYSEAL_RUN", filepath.Join(env.WorkDir, "run"))
	return errors.Join(os.MkdirAll(bin, 0o700), os.MkdirAll(filepath.Join(env.WorkDir, "run"), 0o700),
		os.Symlink(program, filepath.Join(bin, "privyseal")), os.Symlink(node, filepath.Join(bin, "cometbft")))
}

// chainCommand makes the nodes of a chain: `chain VALIDATORS NODE…`. So many of the
// nodes, the first ones, are validators; the others follow them.
func chainCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := slashingOf(ts)
	validators, err := strconv.Atoi(args[0])
	ts.Check(err)
	names := args[1:]
	nodes, err := rig.InitNetwork(s.ctx, slashingVersion, ts.MkAbs("net"), validators, len(names)-validators)
	ts.Check(err)
	for i, n := range nodes {
		home := ts.MkAbs(names[i])
		ts.Check(os.Rename(n.Home, home))
		n.Home = home
		ts.Check(n.EditGenesis(func(g *rig.Genesis) { g.SetChainID("chain-1") }))
		s.nodes[names[i]] = n
		ts.Setenv(names[i], n.RPC)
	}
}

// nodeCommand is `node start NAME [LADDR]`, `node stop NAME`, `node height NAME N`,
// which waits, and `node stuck NAME`: no block comes any more.
func nodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := slashingOf(ts)
	n := s.nodes[args[1]]
	switch args[0] {
	case "start":
		laddr := ""
		if len(args) > 2 {
			laddr = args[2]
			// What a node that was stopped leaves of its socket.
			os.Remove(strings.TrimPrefix(laddr, "unix://"))
		}
		ts.Check(n.Start(laddr))
	case "stop":
		n.Stop(5 * time.Second)
		n.Process = nil
	case "height":
		height, err := strconv.ParseInt(args[2], 10, 64)
		ts.Check(err)
		if err := n.WaitHeight(s.ctx, height); err != nil {
			ts.Fatalf("%v\n%s", err, n.Tail(20))
		}
	default:
		ts.Fatalf("no such command: node %v", args)
	}
}

// signerCommand is `signer start HOME` and `signer stop HOME`.
func signerCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := slashingOf(ts)
	switch args[0] {
	case "start":
		p, err := rig.StartProcess("privyseal", ts.MkAbs(args[1]+".log"), "env", "PRIVYSEAL_RUN="+ts.Getenv("PRIVYSEAL_RUN"), program, "start", "--home", ts.MkAbs(args[1]))
		ts.Check(err)
		s.signers[args[1]] = p
	case "stop":
		ts.Check(s.signers[args[1]].Stop(10 * time.Second))
		delete(s.signers, args[1])
	default:
		ts.Fatalf("no such command: signer %v", args)
	}
}

// exits STATUS COMMAND… runs the command and compares its exit status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	status := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("cannot run %s: %v", args[1], err)
	}
	if want := args[0]; want != strconv.Itoa(status) {
		ts.Fatalf("exit status %d, want %s", status, want)
	}
}

// await FILE PATTERN waits for a line in a log.
func await(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	for slashingOf(ts).ctx.Err() == nil {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && pattern.Match(text) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for name, n := range slashingOf(ts).nodes {
		if n.Process != nil {
			ts.Logf("node %s:\n%s", name, n.Tail(20))
		}
	}
	ts.Fatalf("%s never said %q:\n%s", args[0], args[1], strings.TrimSpace(ts.ReadFile(args[0])))
}
