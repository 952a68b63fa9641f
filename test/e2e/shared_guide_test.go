package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// doc/several-hosts.md is typed on a chain whose state is in a file: certificates, three
// members of etcd by its config, users, the first host, another one, and back. Real nodes
// make blocks before, between and after.
func TestSeveralHostsGuide(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 3*time.Minute)
	g := newHostsGuide(t)
	c := startChain(ctx, t, setup{version: "v0.38.26", transport: "unix", keyType: pubkey.Ed25519})
	g.page = strings.ReplaceAll(g.page, "mychain-1", c.id)
	check(t, c.node.WaitHeight(ctx, 3))

	g.types(0, "")
	g.startEtcd(ctx)
	g.types(1, "")
	check(t, c.signer.Stop(time.Minute))
	g.host(c.signer.Home, 1)
	says := g.types(2, c.signer.Home)
	if strings.Contains(says, "FAIL") || !strings.Contains(says, `user "signer-1" may read and write below /privyseal/, and nothing else`) {
		t.Errorf("after the move:\n%s", says)
	}
	g.goesOn(ctx, c)

	// The other host, whose node is not there.
	key, err := os.ReadFile(filepath.Join(c.signer.Home, "keys", c.id+".key"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(g.dir, "consensus.key"), key, 0o600))
	other := filepath.Join(g.dir, "other")
	check(t, os.Mkdir(other, 0o700))
	g.host(other, 2)
	if says := g.types(3, other, "PRIVYSEAL_RUN="+filepath.Join(g.dir, "run-2"), "NODE=unix://"+filepath.Join(g.dir, "n2.sock")); strings.Contains(says, "FAIL") || !strings.Contains(says, "3 members, of which 1 may be lost") {
		t.Errorf("the other host:\n%s", says)
	}
	check(t, c.signer.Stop(time.Minute))
	if says := g.types(4, c.signer.Home); strings.Contains(says, "FAIL") {
		t.Errorf("back in a file:\n%s", says)
	}
	g.goesOn(ctx, c)
}

// hostsGuide is three hosts on which the page is typed.
type hostsGuide struct {
	t    *testing.T
	dir  string // the administrator's
	bin  string // of etcd
	page string
}

func newHostsGuide(t *testing.T) *hostsGuide {
	t.Helper()
	g := &hostsGuide{t: t, dir: newDir(t)}
	text, err := os.ReadFile("../../doc/several-hosts.md")
	check(t, err)
	// Addresses and folders of this test.
	net := fmt.Sprintf("127.%d.%d.", 1+rand.N(250), rand.N(250))
	g.page = strings.NewReplacer("10.0.0.", net, "/var/lib/etcd", filepath.Join(g.dir, "data-1"), "/etc/etcd/", g.dir+"/").Replace(string(text))
	g.bin = filepath.Join(g.dir, "bin")
	check(t, os.Mkdir(g.bin, 0o700))
	for _, program := range []string{"etcd", "etcdctl"} {
		path, err := etcdtest.Program(program)
		need(t, err)
		check(t, os.Symlink(path, filepath.Join(g.bin, program)))
	}
	return g
}

// block returns the n-th block of a kind.
func (g *hostsGuide) block(kind string, n int) string {
	g.t.Helper()
	for i, part := range strings.Split(g.page, "```") {
		if text, ok := strings.CutPrefix(part, kind+"\n"); ok && i%2 == 1 {
			if n == 0 {
				return text
			}
			n--
		}
	}
	g.t.Fatalf("the page lacks a block of %s", kind)
	return ""
}

// types types a block of the page, and returns what was printed.
func (g *hostsGuide) types(n int, home string, env ...string) string {
	g.t.Helper()
	cmd := exec.Command("bash", "-e", "-u", "-o", "pipefail")
	cmd.Dir = g.dir
	cmd.Stdin = strings.NewReader(g.block("sh", n))
	cmd.Env = append(append(os.Environ(), "PATH="+g.bin+":"+filepath.Dir(program)+":"+os.Getenv("PATH"), "PRIVYSEAL_HOME="+home), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.t.Fatalf("block %d fails: %v\n%s", n, err, out)
	}
	return string(out)
}

// startEtcd starts the members as etcd.yml says, each with its own name and address.
func (g *hostsGuide) startEtcd(ctx context.Context) {
	g.t.Helper()
	first := g.block("yaml", 0)
	for n := 1; n <= 3; n++ {
		var b strings.Builder
		for line := range strings.Lines(first) {
			if !strings.HasPrefix(line, "initial-cluster:") {
				line = strings.NewReplacer("host-1", fmt.Sprint("host-", n), ".1:23", fmt.Sprintf(".%d:23", n), "data-1", fmt.Sprint("data-", n), "etcd-1.", fmt.Sprintf("etcd-%d.", n)).Replace(line)
			}
			b.WriteString(line)
		}
		file := filepath.Join(g.dir, fmt.Sprintf("etcd-%d.yml", n))
		check(g.t, os.WriteFile(file, []byte(b.String()), 0o600))
		p, err := rig.StartProcess("etcd", filepath.Join(g.dir, fmt.Sprintf("etcd-%d.log", n)), filepath.Join(g.bin, "etcd"), "--config-file", file)
		check(g.t, err)
		g.t.Cleanup(func() {
			p.Stop(time.Minute)
			story.Tail(g.t, p)
		})
	}
	health := "export ETCDCTL_ENDPOINTS" + strings.SplitN(strings.SplitN(g.block("sh", 1), "export ETCDCTL_ENDPOINTS", 2)[1], "\n", 2)[0]
	for ; ; time.Sleep(50 * time.Millisecond) {
		cmd := exec.CommandContext(ctx, "bash", "-c", health+"; export ETCDCTL_CACERT=ca.pem ETCDCTL_CERT=root.pem ETCDCTL_KEY=root.key; etcdctl endpoint health")
		cmd.Dir, cmd.Env = g.dir, append(os.Environ(), "PATH="+g.bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			g.t.Fatalf("etcd does not start: %v\n%s", err, out)
		}
	}
}

// host brings the files of a signer to a host.
func (g *hostsGuide) host(home string, n int) {
	g.t.Helper()
	for _, name := range []string{"ca.pem", fmt.Sprintf("signer-%d.pem", n), fmt.Sprintf("signer-%d.key", n)} {
		text, err := os.ReadFile(filepath.Join(g.dir, name))
		check(g.t, err)
		check(g.t, os.WriteFile(filepath.Join(home, name), text, 0o600))
	}
}

// goesOn starts the signer again, and waits until the chain has made more blocks.
func (g *hostsGuide) goesOn(ctx context.Context, c *chain) {
	g.t.Helper()
	height, err := c.node.Height(ctx)
	check(g.t, err)
	check(g.t, c.signer.Start())
	check(g.t, c.node.WaitHeight(ctx, height+3))
}
