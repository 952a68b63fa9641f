package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
)

// doc/several-hosts.md is typed on a chain whose state is in a file: certificates, three
// members of etcd by its config, users, the first host, another one, then what an operator does
// when a member, the space or the cluster is lost, and back. Real nodes make blocks before,
// between and after.
func TestSeveralHostsGuide(t *testing.T) {
	t.Parallel()
	ctx := story.Within(t, 3*time.Minute)
	g := newHostsGuide(t)
	c := startChain(ctx, t, setup{version: "v0.38.26", transport: "unix", keyType: pubkey.Ed25519})
	g.page = strings.ReplaceAll(g.page, "mychain-1", c.id)
	check(t, c.node.WaitHeight(ctx, 3))

	g.types(cluster, 0, "")
	g.configures()
	g.startEtcd(ctx, 1, 2, 3)
	g.types(cluster, 1, "")
	check(t, c.signer.Stop(time.Minute))
	g.host(c.signer.Home, 1)
	says := g.types("The first host", 0, c.signer.Home)
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
	if says := g.types("The other hosts", 0, other); strings.Contains(says, "FAIL") || !strings.Contains(says, "3 members, of which 1 may be lost") {
		t.Errorf("the other host:\n%s", says)
	}
	// It checks its port when the signer of this host does not run.
	file := filepath.Join(other, config.FileName)
	text, err := os.ReadFile(file)
	check(t, err)
	check(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte("127.0.0.1:26661"), []byte(c.signer.Listen)), 0o600))
	g.replaces(ctx, c)
	g.makesRoom(ctx, c)
	g.makesAgain(ctx, c, other)
	check(t, c.signer.Stop(time.Minute))
	if says := g.types("Leaving etcd again", 0, c.signer.Home); strings.Contains(says, "FAIL") {
		t.Errorf("back in a file:\n%s", says)
	}
	g.goesOn(ctx, c)
}

// hostsGuide is three hosts on which the page is typed.
type hostsGuide struct {
	t       *testing.T
	dir     string // the administrator's
	bin     string // of etcd
	page    string
	members map[int]*rig.Process
}

const cluster = "The cluster" // a section of the page

func newHostsGuide(t *testing.T) *hostsGuide {
	t.Helper()
	g := &hostsGuide{t: t, dir: newDir(t), members: map[int]*rig.Process{}}
	text, err := os.ReadFile("../../doc/several-hosts.md")
	check(t, err)
	// Addresses and folders of this test.
	net := fmt.Sprintf("127.%d.%d.", 1+rand.N(250), rand.N(250))
	g.page = strings.NewReplacer("10.0.0.", net, "/var/lib/etcd", filepath.Join(g.dir, "data-1"), "/etc/etcd/", g.dir+"/",
		"quota-backend-bytes: 2147483648", "quota-backend-bytes: 4194304").Replace(string(text))
	g.bin = filepath.Join(g.dir, "bin")
	check(t, os.Mkdir(g.bin, 0o700))
	for _, program := range []string{"etcd", "etcdctl", "etcdutl"} {
		path, err := etcdtest.Program(program)
		need(t, err)
		check(t, os.Symlink(path, filepath.Join(g.bin, program)))
	}
	return g
}

// block returns the n-th block of a kind in a section.
func (g *hostsGuide) block(kind, section string, n int) string {
	g.t.Helper()
	_, text, _ := strings.Cut(g.page, "# "+section+"\n")
	for i, part := range strings.Split(text, "```") {
		if text, ok := strings.CutPrefix(part, kind+"\n"); ok && i%2 == 1 {
			if n == 0 {
				return text
			}
			n--
		}
	}
	g.t.Fatalf("the page lacks a block of %s in %q", kind, section)
	return ""
}

// types types a block of the page, and returns what was printed.
func (g *hostsGuide) types(section string, n int, home string) string {
	g.t.Helper()
	return g.runs(g.block("sh", section, n), home)
}

// typesAt types a block on the host of a member.
func (g *hostsGuide) typesAt(member int, section string, n int) {
	g.t.Helper()
	g.runs(g.of(member, g.block("sh", section, n)), "")
}

// of returns what the page says of host 1, as it is on the host of a member.
func (g *hostsGuide) of(member int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "initial-cluster:") && !strings.Contains(line, "--initial-cluster ") {
			line = strings.NewReplacer("host-1", fmt.Sprint("host-", member), ".1:23", fmt.Sprintf(".%d:23", member), "data-1", fmt.Sprint("data-", member),
				"etcd-1.", fmt.Sprintf("etcd-%d.", member), "etcd.yml", fmt.Sprintf("etcd-%d.yml", member)).Replace(line)
		}
		b.WriteString(line)
	}
	return b.String()
}

// runs runs commands, with the variables that the page exports.
func (g *hostsGuide) runs(text, home string) string {
	g.t.Helper()
	out, err := g.tries(text, home)
	if err != nil {
		g.t.Fatalf("%s\nfails: %v\n%s", text, err, out)
	}
	return out
}

func (g *hostsGuide) tries(text, home string) (string, error) {
	g.t.Helper()
	for line := range strings.Lines(g.block("sh", cluster, 1)) {
		if strings.HasPrefix(line, "export ") {
			text = line + text
		}
	}
	cmd := exec.Command("bash", "-e", "-u", "-o", "pipefail")
	cmd.Dir = g.dir
	cmd.Stdin = strings.NewReader(text)
	cmd.Env = append(os.Environ(), "PATH="+g.bin+":"+filepath.Dir(program)+":"+os.Getenv("PATH"), "PRIVYSEAL_HOME="+home)
	if filepath.Dir(home) == g.dir { // the other host
		cmd.Env = append(cmd.Env, "PRIVYSEAL_RUN="+filepath.Join(g.dir, "run-2"), "NODE=unix://"+filepath.Join(g.dir, "n2.sock"))
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// configures gives each host its etcd.yml, with its own name and address.
func (g *hostsGuide) configures() {
	g.t.Helper()
	for n := 1; n <= 3; n++ {
		check(g.t, os.WriteFile(filepath.Join(g.dir, fmt.Sprintf("etcd-%d.yml", n)), []byte(g.of(n, g.block("yaml", cluster, 0))), 0o600))
	}
}

// startEtcd starts members, and waits until all are healthy.
func (g *hostsGuide) startEtcd(ctx context.Context, list ...int) {
	g.t.Helper()
	for _, n := range list {
		p, err := rig.StartProcess("etcd", filepath.Join(g.dir, fmt.Sprintf("etcd-%d.log", n)), filepath.Join(g.bin, "etcd"), "--config-file", filepath.Join(g.dir, fmt.Sprintf("etcd-%d.yml", n)))
		check(g.t, err)
		g.members[n] = p
		g.t.Cleanup(func() {
			p.Stop(time.Minute)
			story.Tail(g.t, p)
		})
	}
	for ; ; time.Sleep(50 * time.Millisecond) {
		out, err := g.tries("etcdctl endpoint health", "")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			g.t.Fatalf("etcd does not start: %v\n%s", err, out)
		}
	}
}

// stopEtcd stops members as systemd does; etcd ends by the signal.
func (g *hostsGuide) stopEtcd(list ...int) {
	for _, n := range list {
		g.members[n].Stop(time.Minute)
	}
}

// replaces replaces a member while blocks are made, and starts another one again, which
// compares its data with the others'.
func (g *hostsGuide) replaces(ctx context.Context, c *chain) {
	g.t.Helper()
	const section = "A member is replaced"
	id := g.runs("etcdctl member list | grep host-3 | cut -d , -f 1", "")
	g.stopEtcd(3)
	g.types(section, 0, "")
	g.typesAt(3, section, 1)
	g.startEtcd(ctx, 3)
	if now := g.runs("etcdctl member list | grep host-3 | cut -d , -f 1", ""); now == id {
		g.t.Errorf("host-3 is still the member %s", id)
	}
	g.stopEtcd(2)
	g.startEtcd(ctx, 2)
	log, err := os.ReadFile(g.members[2].Log)
	check(g.t, err)
	if !strings.Contains(string(log), "initial corruption checking passed") {
		g.t.Error("a member that starts does not compare its data with the others'")
	}
	g.moreBlocks(ctx, c)
}

// makesRoom fills the database, and makes room.
func (g *hostsGuide) makesRoom(ctx context.Context, c *chain) {
	g.t.Helper()
	out, err := "", error(nil)
	for n := 0; err == nil && n < 200; n++ {
		out, err = g.tries("head -c 90000 /dev/zero | base64 -w 0 | etcdctl put /filling", "")
	}
	if !strings.Contains(out, "database space exceeded") {
		g.t.Fatalf("etcd is not full: %v: %s", err, out)
	}
	if says, _ := g.tries("privyseal check", c.signer.Home); !strings.Contains(says, "the alarm NOSPACE is raised") {
		g.t.Errorf("a full database:\n%s", says)
	}
	g.types("There is no space", 0, "")
	if says := g.runs("privyseal check", c.signer.Home); strings.Contains(says, "FAIL") {
		g.t.Errorf("after there is room:\n%s", says)
	}
	g.moreBlocks(ctx, c)
}

// makesAgain loses all members twice: then the cluster is empty, and once out of a snapshot.
func (g *hostsGuide) makesAgain(ctx context.Context, c *chain, other string) {
	g.t.Helper()
	const section = "The majority is gone for good"
	g.runs("ETCDCTL_ENDPOINTS=${ETCDCTL_ENDPOINTS%%,*} etcdctl snapshot save snapshot.db", "")
	g.moreBlocks(ctx, c)
	for way := range 2 {
		check(g.t, c.signer.Stop(time.Minute))
		g.stopEtcd(1, 2, 3)
		for n := range 3 {
			g.typesAt(n+1, section, way)
		}
		g.startEtcd(ctx, 1, 2, 3)
		if way == 0 {
			g.types(cluster, 1, "")
		}
		for _, home := range []string{c.signer.Home, other} {
			if says, err := g.tries("privyseal state show", home); err == nil || !strings.Contains(says, "may be older than what the key has signed") {
				g.t.Errorf("before the adoption: %v\n%s", err, says)
			}
			if says := g.types("After a restore", 0, home); strings.Contains(says, "FAIL") {
				g.t.Errorf("after the adoption:\n%s", says)
			}
		}
		g.goesOn(ctx, c)
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
	check(g.t, c.signer.Start())
	g.moreBlocks(ctx, c)
}

func (g *hostsGuide) moreBlocks(ctx context.Context, c *chain) {
	g.t.Helper()
	height, err := c.node.Height(ctx)
	check(g.t, err)
	check(g.t, c.node.WaitHeight(ctx, height+3))
}
