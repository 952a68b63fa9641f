package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

// twin uses a kept home on a second instance, whose enclave cannot know that the state is
// old. The witness of the host does: it reaches no node, and ends. Where a second host has
// no witness, its enclave signs, and the first one's witness rings.
func (n *network) twin(kept string, im *world.Image) {
	n.t.Helper()
	second := n.secondInstance()
	with := n.secondHost(kept, "with-witness", second, im)
	node := n.standIn(with)
	check(n.t, with.Start())
	check(n.t, with.WaitMustAct(n.ctx))
	n.proves(with)
	if node.called(n.t) {
		n.t.Error("the host with an old state reached a node")
	}

	// Of two votes of a validator the network keeps the one that comes first: the
	// first signer's node is down, so that it is the second one's.
	n.chain.Node.Stop(time.Minute)
	h, err := n.nodes[1].Height(n.ctx)
	check(n.t, err)
	check(n.t, n.nodes[1].WaitHeight(n.ctx, h+2))
	blind := n.secondHost(kept, "blind", second, im)
	check(n.t, blind.Configure("witness", "[]"))
	check(n.t, blind.Start())
	n.t.Cleanup(func() { n.nodes[validators].Stop(time.Minute) })
	check(n.t, n.nodes[validators].StartUntilUp(n.ctx, n.addr(blind)))
	check(n.t, n.signer.WaitMustAct(n.ctx))
	if at := n.proves(n.signer); at <= h {
		n.t.Errorf("the proof is of block %d, and the second signer begins above %d", at, h)
	}
	// For good: a restart does not forget it.
	check(n.t, n.signer.Start())
	check(n.t, n.signer.WaitMustAct(n.ctx))
}

// proves returns the height of the proof that a host has kept.
func (n *network) proves(s *noderig.Signer) int64 {
	n.t.Helper()
	p, err := s.Proof()
	check(n.t, err)
	if !n.chain.Key.Verify(p.SignBytes, p.Signature) {
		n.t.Errorf("the proof does not verify: %+v", p)
	}
	return p.Height
}

// copyHome copies the signer's home, as somebody does who means to keep it.
func (n *network) copyHome(name string) string {
	n.t.Helper()
	return n.copyTo(n.signer.Home, name)
}

func (n *network) copyTo(from, name string) string {
	n.t.Helper()
	to := filepath.Join(n.w.Dir, name)
	_, err := noderig.Output(n.ctx, "cp", "-a", from, to)
	check(n.t, err)
	return to
}

// secondInstance is one that may have the key as the first may.
func (n *network) secondInstance() *rig.Instance {
	n.t.Helper()
	dir, err := rig.NewDir()
	check(n.t, err)
	i, err := rig.NewInstance(rig.Instance{Dir: dir, ID: "i-0fedcba9876543210", Role: n.w.Instance.Role}, n.w.Root)
	check(n.t, err)
	n.t.Cleanup(func() {
		if err := errors.Join(i.Close(), os.RemoveAll(dir)); err != nil {
			n.t.Error(err)
		}
	})
	return i
}

// secondHost makes a host of a kept home, whose state is adopted there.
func (n *network) secondHost(kept, name string, i *rig.Instance, im *world.Image) *noderig.Signer {
	n.t.Helper()
	s := &noderig.Signer{Program: filepath.Join(n.w.Dir, name+".sh"), Home: n.copyTo(kept, name)}
	// A host remembers what was signed since its boot: this is another one.
	run := filepath.Join(n.w.Dir, name+"-run")
	script := "#!/bin/sh\nPRIVYSEAL_RUN=" + run + " exec " + n.w.Privyseal + " \"$@\"\n"
	check(n.t, errors.Join(os.Mkdir(run, 0o700), os.WriteFile(s.Program, []byte(script), 0o700), os.Remove(filepath.Join(s.Home, "privyseal.log"))))
	for key, value := range map[string]string{
		"eif": im.Path, "transport": i.Sockets(), "nitro_cli": i.CLI(), "listen": "",
	} {
		check(n.t, s.Configure(key, strconv.Quote(value)))
	}
	path := filepath.Join(s.Home, "privyseal.toml")
	text, err := os.ReadFile(path)
	check(n.t, err)
	check(n.t, os.WriteFile(path, bytes.ReplaceAll(text, []byte(n.chain.Addr), []byte(n.addr(s))), 0o600))
	_, err = noderig.Output(n.ctx, s.Program, "state", "adopt", "--home", s.Home, "--yes")
	check(n.t, err)
	n.t.Cleanup(func() {
		if s.Process != nil {
			s.Stop(time.Minute)
			story.Tail(n.t, s.Process)
		}
	})
	return s
}

// addr is where the node of a second host listens.
func (n *network) addr(s *noderig.Signer) string {
	return "unix://" + filepath.Join(n.w.Instance.Dir, filepath.Base(s.Home)+".sock")
}

// standIn listens in the place of a host's node, until the test ends.
func (n *network) standIn(s *noderig.Signer) *standInNode {
	n.t.Helper()
	l, err := net.Listen("unix", strings.TrimPrefix(n.addr(s), "unix://"))
	check(n.t, err)
	n.t.Cleanup(func() { l.Close() })
	return &standInNode{l}
}

type standInNode struct{ l net.Listener }

// called reports whether somebody has connected since it listens: connections come in
// their order, and ours is the last.
func (s *standInNode) called(t *testing.T) bool {
	t.Helper()
	last, err := net.Dial("unix", s.l.Addr().String())
	check(t, err)
	defer last.Close()
	_, err = last.Write([]byte("last"))
	check(t, err)
	first, err := s.l.Accept()
	check(t, err)
	defer first.Close()
	text := make([]byte, 4)
	_, err = io.ReadFull(first, text)
	return err != nil || string(text) != "last"
}
