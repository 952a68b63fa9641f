package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/sgx/e2e/world"
)

// blocks is how many each chain makes, twice.
const blocks = 100

// Two chains, one over a unix socket and one over tcp, are signed from inside of one
// enclave; its host is restarted, then killed.
func TestChain(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 2*time.Minute)
	w := newWorld(t)
	folder, err := w.Enclave(ctx, "--chain", "sgx-unix", "--chain", "sgx-tcp")
	check(t, err)
	s, chains, err := w.InitChains(ctx, w.InitFlags(folder), "unix", "tcp")
	need(t, err)
	for _, c := range chains {
		madeInside(ctx, t, w, filepath.Join(s.Home, "keys", c.ID+".attestation"), folder, c)
	}
	story.StartSigner(t, s)
	for _, c := range chains {
		story.StartNode(t, c.Node, c.Addr)
	}
	for _, c := range chains {
		check(t, c.Node.WaitHeight(ctx, blocks+1))
	}
	check(t, s.Stop(time.Minute))
	check(t, s.Start())
	check(t, enclave.GoOn(ctx, chains, 20))
	check(t, s.Signal(syscall.SIGKILL))
	<-s.Done()
	check(t, s.Start())
	check(t, enclave.GoOn(ctx, chains, blocks))
	for _, c := range chains {
		check(t, c.VerifyCommits(ctx, 1, 2*blocks))
		attests(ctx, t, w, s, c, folder)
	}
}

// Noise ends inside of the enclave, with an identity that was made there. A node that proves
// another identity than the pinned one gets no vote, and a node that pins another signer takes
// none; when both name each other the chain goes on, and after a restart.
func TestNoise(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, time.Minute)
	w := newWorld(t)
	folder, err := w.Enclave(ctx)
	check(t, err)
	s, chains, err := w.InitChains(ctx, w.InitFlags(folder), "noise")
	need(t, err)
	c := chains[0]
	madeInside(ctx, t, w, filepath.Join(s.Home, "identity.attestation"), folder, nil)
	other, err := noderig.InitNode(ctx, enclave.NoiseVersion, filepath.Join(w.Dir, "other"))
	check(t, err)
	stranger, err := other.PeerID(ctx)
	check(t, err)
	ours, addr := peer(c.Addr)
	node, _ := peer(c.Dial)

	pin(t, s, node, stranger)
	story.StartSigner(t, s)
	findsNoSigner(ctx, t, c.Node, c.Addr, s.Log, "node is "+node+", but "+stranger+" is pinned")
	check(t, s.Stop(time.Minute))
	pin(t, s, stranger, node)
	check(t, s.Start())
	findsNoSigner(ctx, t, c.Node, "noise://"+stranger+"@"+addr, filepath.Join(c.Node.Home, "node.log"), "signer peer "+ours+" not allowlisted")

	story.StartNode(t, c.Node, c.Addr)
	check(t, c.Node.WaitHeight(ctx, blocks+1))
	check(t, s.Stop(time.Minute))
	check(t, s.Start())
	check(t, enclave.GoOn(ctx, chains, 5))
	check(t, c.VerifyCommits(ctx, 1, blocks+5))
}

// madeInside checks the document that init left, of a chain's key or of the identity.
func madeInside(ctx context.Context, t *testing.T, w *world.World, doc, folder string, c *enclave.Chain) {
	t.Helper()
	out, err := w.Verify(ctx, doc, folder, c)
	check(t, err)
	if !strings.Contains(out, "generated") {
		t.Errorf("verify says of the document of init\n%s", out)
	}
}

// findsNoSigner waits until a node has ended for want of a signer, and somebody's log says why.
// One that had ended before the signer came is started again, as its service does.
func findsNoSigner(ctx context.Context, t *testing.T, n *noderig.Node, privval, log, why string) {
	t.Helper()
	for {
		check(t, n.Start(privval))
		select {
		case <-n.Done():
		case <-ctx.Done():
			t.Fatalf("the node goes on: %v\n%s", context.Cause(ctx), n.Tail(20))
		}
		text, err := os.ReadFile(log)
		check(t, err)
		if bytes.Contains(text, []byte(why)) {
			return
		}
	}
}

// peer takes noise://PEER@HOST:PORT apart.
func peer(address string) (id, hostPort string) {
	id, hostPort, _ = strings.Cut(strings.TrimPrefix(address, "noise://"), "@")
	return id, hostPort
}

// pin has the signer expect another node behind its address.
func pin(t *testing.T, s *noderig.Signer, was, is string) {
	t.Helper()
	path := filepath.Join(s.Home, "privyseal.toml")
	text, err := os.ReadFile(path)
	check(t, err)
	changed := bytes.ReplaceAll(text, []byte("noise://"+was+"@"), []byte("noise://"+is+"@"))
	if bytes.Equal(changed, text) {
		t.Fatalf("%s pins no %s", path, was)
	}
	check(t, os.WriteFile(path, changed, 0o600))
}

// attests checks a new document: with what is expected, and against what is not.
func attests(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer, c *enclave.Chain, folder string) {
	t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	text := hex.EncodeToString(nonce)
	doc := filepath.Join(w.Dir, c.ID+".attest")
	_, err := w.Run(ctx, "sgx", "attest", "--home", s.Home, "--chain-id", c.ID, "--nonce", text, "--out", doc)
	check(t, err)
	_, err = w.Verify(ctx, doc, folder, c, "--nonce", text)
	check(t, err)
	other, err := w.Enclave(ctx)
	check(t, err)
	if out, err := w.Verify(ctx, doc, other, c, "--nonce", text); err == nil || !strings.Contains(err.Error(), "MRENCLAVE") {
		t.Errorf("a document verified as one of another enclave: %v\n%s", err, out)
	}
	if out, err := w.Verify(ctx, doc, folder, c, "--nonce", "00"+text[2:]); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("a document verified with another nonce: %v\n%s", err, out)
	}
}

// What changes the seal key stops the signer, which says the way out; the backup brings the
// key back, and the chain goes on with the same validator.
func TestRecover(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(context.Context, *testing.T, *world.World, *noderig.Signer) (folder string){
		"another CPU": func(_ context.Context, t *testing.T, w *world.World, _ *noderig.Signer) string {
			check(t, w.Move())
			return ""
		},
		"an update of the microcode": func(_ context.Context, t *testing.T, w *world.World, _ *noderig.Signer) string {
			check(t, w.UpdateMicrocode())
			return ""
		},
		"another build": func(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer) string {
			folder, err := w.Enclave(ctx, "--chain", "sgx-unix")
			check(t, err)
			check(t, s.Configure("folder", `"`+folder+`"`))
			return folder
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := story.Within(t, time.Minute)
			w := newWorld(t)
			folder, err := w.Enclave(ctx)
			check(t, err)
			s, chains, err := w.InitChains(ctx, w.InitFlags(folder), "unix")
			need(t, err)
			c := chains[0]
			story.StartSigner(t, s)
			story.StartNode(t, c.Node, c.Addr)
			check(t, c.Node.WaitHeight(ctx, 10))
			check(t, s.Stop(time.Minute))
			if other := change(ctx, t, w, s); other != "" {
				folder = other
			}
			end := mark(s)
			check(t, s.Start())
			check(t, said(ctx, s, end, "privyseal sgx recover"))
			check(t, s.Stop(time.Minute))
			stopped, err := c.Node.Height(ctx)
			check(t, err)

			out, err := w.Recover(ctx, s, c, folder, "--check")
			check(t, err)
			if !strings.Contains(out, "nothing was written") {
				t.Error(out)
			}
			_, err = w.Recover(ctx, s, c, folder)
			check(t, err)
			check(t, s.Start())
			check(t, c.Node.WaitHeight(ctx, stopped+10))
			check(t, c.VerifyCommits(ctx, 1, stopped+9))
		})
	}
}

// mark returns where the log of a signer ends.
func mark(s *noderig.Signer) int {
	text, _ := os.ReadFile(filepath.Join(s.Home, "privyseal.log")) // none is an empty one
	return len(text)
}

// said waits until the log of a signer has a text behind a mark.
func said(ctx context.Context, s *noderig.Signer, from int, text string) error {
	following, stop := context.WithCancel(ctx)
	defer stop()
	found, at := false, 0
	err := s.Follow(following, func(line []byte) {
		if at += len(line); at > from && bytes.Contains(line, []byte(text)) {
			found = true
			stop()
		}
	})
	if found {
		return nil
	}
	return fmt.Errorf("the log has no %q: %v\n%s", text, err, s.Tail(20))
}
