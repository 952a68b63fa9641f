package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"privyseal/internal/pubkey"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

// doc/nitro.md and doc/nitro-alarm.md, typed top to bottom: each of its blocks goes into a shell, in the
// order in which the guide has them, and has to succeed. privyseal, image and
// enclave are the real ones. The instance is a folder, and AWS, systemd and the
// tools that need another machine or root are stand-ins, in cloud_test.go and
// below.

// The main path, the alarm, an upgrade, and a lost state, with a real node.
func TestGuide(t *testing.T) {
	ctx := story.Within(t, 2*time.Minute)
	g := newGuide(ctx, t)
	g.putRelease()
	for _, step := range []string{
		"In ten steps", "1. The programs and the kernel", "2. A role without rights", "3. A KMS key", "4. The measured policy",
		"5. The image", "6. The key policy", "7. The instance", "8. The key",
	} {
		g.follow(step)
	}
	g.hasItsProgram()
	c := g.node()
	start := g.blocks("9. Pin and start")
	g.run(start[0])
	g.run(start[1])
	story.StartNode(t, c.Node, c.Addr)
	check(t, c.Node.WaitHeight(ctx, 3))
	g.run(start[2])
	check(t, c.VerifyCommits(ctx, 1, 2))

	for _, step := range []string{"In the second account", "In the account of the KMS key", "Try it"} {
		g.follow(step)
	}
	g.rings("an enclave that starts again", "Decrypt")
	g.signs(c)
	g.follow("Verify")

	// Weeks later.
	g.shells["the own machine"] = g.newShell(g.own)
	g.typed("the own machine", ". ./variables; export PATH=$PWD/bin:$PATH")
	g.typed("the own machine", `privyseal nitro image-policy --kms-key $KEY --chain $CHAIN --max-height 20000000 > policy.json`)
	old := g.pcr0()
	upgrade := g.blocks("Upgrade to a new image")
	g.forgetMails()
	g.run(upgrade[0])
	g.run(upgrade[1])
	g.signs(c)
	g.hasItsProgram()
	g.run(upgrade[2])
	if g.pcr0() == old {
		t.Error("the upgrade was to the same image")
	}
	g.rings("an upgrade", "PutKeyPolicy", "Decrypt")
	g.follow("Verify")

	g.stopService()
	g.newInstance()
	g.follow("The instance is lost")
	g.follow("The state is lost")
	g.opened()
	if out := g.typed("the instance", "privyseal state show"); !strings.Contains(out, "12345678") {
		t.Errorf("the state that was made again:\n%s", out)
	}
}

// The three ways in for a key that exists, each on an instance of its own.
func TestGuideImports(t *testing.T) {
	ctx := story.Within(t, 2*time.Minute)
	g := newGuide(ctx, t)
	g.putRelease()
	const data = "../../../internal/migrate/testdata/"
	// The public keys of these are fixed: testdata of cmd/privyseal.
	g.words["mychain-1"] = "test-chain-8SAWOC"
	for _, step := range []string{
		"In ten steps", "1. The programs and the kernel", "2. A role without rights", "3. A KMS key", "4. The measured policy", "5. The image",
	} {
		g.follow(step)
	}
	g.bring(g.own, data+"cometbft/config/priv_validator_key.json", data+"cometbft/data/priv_validator_state.json")
	kms := g.blocks("From a ciphertext of `aws kms encrypt`")
	g.run(kms[0])
	g.follow("6. The key policy")

	t.Log("from a file")
	g.follow("7. The instance")
	file := g.blocks("From a file")
	g.run(file[0])
	g.bring(g.own, g.root+"/home/ec2-user/import.b64")
	g.run(file[1])
	g.bring(g.root+"/home/ec2-user", g.own+"/sealed.json")
	g.run(file[2])
	g.imported("height 11", "5ABBA271D7E7EB44A3CA4D48DEB6F6567B59FA66")

	t.Log("from a ciphertext")
	g.follow("6. The key policy") // nothing is pinned
	g.newInstance()
	g.bring(g.root+"/home/ec2-user", g.own+"/key.b64", data+"cometbft/data/priv_validator_state.json")
	g.words["AbCd…="] = g.publicKey
	g.run(kms[1])
	g.imported("height 11", "5ABBA271D7E7EB44A3CA4D48DEB6F6567B59FA66")

	t.Log("from tmkms-light")
	g.words["mychain-1"] = "testchain-1"
	g.typed("the own machine", "CHAIN=testchain-1")
	g.follow("4. The measured policy")
	g.typed("the own machine", "rm privyseal.eif")
	g.follow("5. The image")
	g.follow("6. The key policy")
	g.newInstance()
	g.tmkmsLight(data + "tmkms-light-nitro")
	g.follow("From tmkms-light's enclave")
	g.imported("height 1234", "21FE31DFA154A261626BF854046FD2271B7BED4B")
}

// guide is a reader of doc/nitro.md who types what is there.
type guide struct {
	*testing.T
	ctx   context.Context
	world *world.World
	cloud *cloud

	text  string
	words map[string]string // what is typed in place of a word of the guide
	own   string            // folder of the reader's own machine
	tools string            // folder of stand-ins
	root  string            // folder that stands for / of the instance
	count int               // of instances

	shells    map[string]*shell
	service   *noderig.Process
	publicKey string
}

// block is one of the guide's, and on which machine it is typed.
type block struct{ where, text string }

func newGuide(ctx context.Context, t *testing.T) *guide {
	t.Helper()
	w := newWorld(t)
	text, err := os.ReadFile("../../../doc/nitro.md")
	check(t, err)
	alarm, err := os.ReadFile("../../../doc/nitro-alarm.md")
	check(t, err)
	g := &guide{T: t, ctx: ctx, world: w, text: string(text) + string(alarm), words: map[string]string{}, shells: map[string]*shell{}}
	g.cloud = newCloud(g)
	g.own, g.tools = filepath.Join(w.Dir, "own"), filepath.Join(w.Dir, "tools")
	for _, dir := range []string{g.own, g.tools} {
		check(t, os.MkdirAll(dir, 0o700))
	}
	g.putTools()
	flags, err := w.TestRoots()
	check(t, err)
	// What no operator types: this world's KMS and root, in place of AWS's.
	for _, command := range []string{"privyseal verify ", "privyseal key seal "} {
		g.words[command] = command + "--test-root " + w.RootPath() + " "
	}
	g.words["image-policy "] = strings.Join(append([]string{"image-policy", "--endpoint", w.Relay.Addr, "--server-name", world.ServerName}, flags...), " ") + " "
	g.shells["the own machine"] = g.newShell(g.own)
	g.freshInstance()
	t.Cleanup(g.stopService)
	return g
}

// freshInstance gives the instance an empty disk, with what Amazon Linux has.
func (g *guide) freshInstance() {
	g.Helper()
	g.count++
	g.root = filepath.Join(g.world.Dir, "i")
	if err := os.Rename(g.root, fmt.Sprintf("%s.%d", g.root, g.count)); err != nil && !errors.Is(err, os.ErrNotExist) {
		g.Fatal(err)
	}
	for _, dir := range []string{"etc/nitro_enclaves", "etc/profile.d", "etc/systemd/system", "usr/local/bin", "var/lib", "home/ec2-user", "run/host"} {
		check(g.T, os.MkdirAll(filepath.Join(g.root, dir), 0o700))
	}
	for _, dir := range []string{"/etc/", "/usr/local/bin", "/usr/local/share", "/var/lib/privyseal", "/home/ec2-user", "/run/privyseal-nitro"} {
		g.words[dir] = g.root + dir
	}
	g.words["/run/privval/"] = g.world.Instance.Dir + "/"
	g.shells["the instance"] = g.newShell("/", g.world.Instance.Dir)
	g.typed("the instance", "export "+g.remembers())
}

// remembers names the folder in which an instance remembers what was signed since it
// was booted.
func (g *guide) remembers() string { return "PRIVYSEAL_RUN=" + filepath.Join(g.root, "run/host") }

// newInstance is one that step 7 is typed on; the old one is gone.
func (g *guide) newInstance() {
	g.Helper()
	check(g.T, g.world.Instance.Close())
	g.freshInstance()
	g.follow("7. The instance")
}

// putRelease puts a release into the reader's folder, as `make release` names it.
func (g *guide) putRelease() {
	g.Helper()
	kernel, err := rig.Kernel()
	check(g.T, err)
	for name, from := range map[string]string{
		"privyseal-v1.0.0-linux-amd64": programs.Privyseal, "privyseal-enclave-v1.0.0-linux-amd64": programs.Enclave,
		"privyseal-kernel-v1.0.0-linux-amd64": kernel, "privyseal-nitro.service": "../../../systemd/privyseal-nitro.service", "nitro.md": "../../../doc/nitro.md",
	} {
		check(g.T, copyFile(from, filepath.Join(g.own, name)))
	}
	flags, err := g.world.TestRoots()
	check(g.T, err)
	any, err := g.world.BuildImage(g.ctx, "any", flags...)
	check(g.T, err)
	// The reader's machine is another one than the instance, and its program too: that
	// has a byte more after its end, which Linux does not mind.
	program, err := os.ReadFile(programs.Privyseal)
	check(g.T, err)
	check(g.T, os.WriteFile(g.own+"/privyseal-v1.0.0-linux-arm64", append(program, 0), 0o600))
	g.words["OWN=amd64"] = "OWN=arm64"
	check(g.T, os.WriteFile(g.own+"/PCR1-v1.0.0.txt", []byte("amd64  "+any.PCRs["1"]+"\n"), 0o600))
	g.typed("the own machine", "sha256sum PCR1-* privyseal-* nitro.md > SHA256SUMS")
}

// putTools puts stand-ins onto the path: for what asks AWS or systemd, and for
// what needs root or a second machine.
func (g *guide) putTools() {
	g.Helper()
	for name, script := range map[string]string{
		"sudo":    `[ "$1 $2" != "-u privyseal" ] || shift 2; exec "$@"`,
		"useradd": "", "dnf": "", "chown": "", // this machine must not be changed
		"curl": "echo 203.0.113.7",
		"id":   "echo 0",
		// AF_VSOCK is a folder here; nothing else differs on this instance.
		"setpriv": `[ "$1 $2 $3" = "--reuid=privyseal --regid=privyseal --init-groups" ] || exit 64
			while case $1 in --*) true ;; *) false ;; esac; do shift; done
			case "$*" in *--eif*) set -- "$@" --transport "$GUIDE_SOCKETS" ;; esac; exec "$@"`,
		"install": `n=$#; while [ $n -gt 0 ]; do case $1 in -o | -g) shift 2; n=$((n - 2)); continue ;; esac; set -- "$@" "$1"; shift; n=$((n - 1)); done; exec /usr/bin/install "$@"`,
		"ssh":     `[ "$1 $2" = "-n -i" ] && [ -s "$3" ] && [ "$4" = ec2-user@198.51.100.1 ] || exit 64; shift 4; exec sh -c "$*"`,
		"scp": `[ "$1" = -i ] && [ -s "$2" ] || exit 64; shift 2; n=$#; while [ $n -gt 1 ]; do set -- "$@" "$1"; shift; n=$((n - 1)); done
			[ "$1" = ec2-user@198.51.100.1: ] || exit 64; shift; exec cp "$@" "$(cat "$GUIDE_TOOLS/instance")/home/ec2-user"`,
	} {
		check(g.T, os.WriteFile(filepath.Join(g.tools, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	}
	self, err := os.Executable()
	check(g.T, err)
	for _, name := range []string{"aws", "systemctl"} {
		check(g.T, os.Symlink(self, filepath.Join(g.tools, name)))
	}
	l, err := net.Listen("unix", filepath.Join(g.world.Instance.Dir, "guide"))
	check(g.T, err)
	g.Cleanup(func() { l.Close() })
	go g.serve(l)
}

var fence = regexp.MustCompile("(?s)```sh\n# (.*?)\n(.*?)```")

// blocks returns those below a heading, up to the next one.
func (g *guide) blocks(heading string) []block {
	g.Helper()
	at := regexp.MustCompile(`(?m)^#+ ` + regexp.QuoteMeta(heading) + `$`).FindStringIndex(g.text)
	if at == nil {
		g.Fatalf("doc/nitro.md has no heading %q", heading)
	}
	text := g.text[at[1]:]
	if next := regexp.MustCompile(`(?m)^#+ [A-Z0-9]`).FindStringIndex(text); next != nil {
		text = text[:next[0]]
	}
	var blocks []block
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		where, _, _ := strings.Cut(m[1], ",")
		blocks = append(blocks, block{where, m[2]})
	}
	if len(blocks) == 0 {
		g.Fatalf("doc/nitro.md has no block below %q", heading)
	}
	return blocks
}

func (g *guide) follow(heading string) {
	g.Helper()
	began := time.Now()
	for _, b := range g.blocks(heading) {
		g.run(b)
	}
	g.Logf("%s: %.1f s", heading, time.Since(began).Seconds())
}

// run types a block on its machine.
func (g *guide) run(b block) string {
	g.Helper()
	switch b.where {
	case "on your machine", "where the key is":
		return g.typed("the own machine", b.text)
	case "on the instance":
		out := g.typed("the instance", b.text)
		if strings.Contains(b.text, "privyseal init") || strings.Contains(b.text, "privyseal migrate") {
			g.freePort()
		}
		return out
	case "where the source is":
		return "" // make and kernel/build have tests of their own
	}
	g.Fatalf("doc/nitro.md: nobody knows where %q is", b.where)
	return ""
}

// typed types lines, with the words of this world, and returns what they print.
func (g *guide) typed(machine, lines string) string {
	g.Helper()
	for from, to := range g.words {
		if !strings.Contains(lines, to) {
			lines = strings.ReplaceAll(lines, from, to)
		}
	}
	check(g.T, os.WriteFile(filepath.Join(g.tools, "instance"), []byte(g.root), 0o600))
	out, err := g.shells[machine].run(lines)
	if err != nil {
		g.Fatalf("on %s, %v:\n%s\n%s", machine, err, lines, out)
	}
	return out
}

// freePort moves the metrics, for other tests may run beside this one.
func (g *guide) freePort() {
	g.Helper()
	port, err := noderig.FreePort()
	check(g.T, err)
	s := &noderig.Signer{Home: g.root + "/var/lib/privyseal"}
	check(g.T, s.Configure("listen", fmt.Sprintf(`"127.0.0.1:%d"`, port)))
}

// bring copies files, for the reader who is asked to.
func (g *guide) bring(to string, files ...string) {
	g.Helper()
	for _, f := range files {
		name := filepath.Join(to, filepath.Base(f))
		check(g.T, errors.Join(copyFile(f, name), os.Chmod(name, 0o600)))
	}
}

// node makes the home of a node whose validator has the key, and that listens
// where the guide says.
func (g *guide) node() *enclave.Chain {
	g.Helper()
	c := &enclave.Chain{ID: "mychain-1", Addr: "unix://" + g.world.Instance.Dir + "/privval.sock"}
	var err error
	c.Node, err = noderig.InitNode(g.ctx, enclave.NodeVersion, filepath.Join(g.world.Dir, "node"))
	need(g.T, err)
	text := strings.TrimSpace(g.typed("the instance", "privyseal key show"))
	c.Key, err = pubkey.ParseJSON([]byte(text))
	check(g.T, err)
	check(g.T, c.Node.EditGenesis(func(gen *noderig.Genesis) {
		gen.SetChainID(c.ID)
		gen.SetValidator(0, []byte(text), string(c.Key.Type()))
	}))
	return c
}

// hasItsProgram checks that privyseal on the instance is the one for its processor.
func (g *guide) hasItsProgram() {
	g.Helper()
	want, err := os.ReadFile(programs.Privyseal)
	check(g.T, err)
	got, err := os.ReadFile(g.root + "/usr/local/bin/privyseal")
	check(g.T, err)
	if !bytes.Equal(got, want) {
		g.Error("the instance has the program of the reader's own machine")
	}
}

// signs waits for blocks that are signed from now on.
func (g *guide) signs(c *enclave.Chain) {
	g.Helper()
	h, err := c.Node.Height(g.ctx)
	check(g.T, err)
	check(g.T, c.Node.WaitHeight(g.ctx, h+3))
}

// pcr0 returns that of the image on the reader's machine.
func (g *guide) pcr0() string {
	g.Helper()
	return world.PCRs(g.typed("the own machine", "privyseal nitro measure privyseal.eif"))["0"]
}

// imported checks what the enclave has taken in, on the machine that verifies.
func (g *guide) imported(mark, address string) {
	g.Helper()
	if out := g.typed("the instance", "privyseal state show"); !strings.Contains(out, mark) {
		g.Errorf("the state is not at %s:\n%s", mark, out)
	}
	backup := g.blocks("8. The key")[1]
	out := g.run(backup)
	if !strings.Contains(out, address) || !regexp.MustCompile(`(?m)^origin +imported$`).MatchString(out) {
		g.Errorf("the document of an imported key says\n%s", out)
	}
	g.publicKey = strings.TrimSpace(g.typed("the own machine", "echo $PUBKEY"))
	start := g.blocks("9. Pin and start")
	g.run(start[0])
	g.run(start[1])
	g.opened()
	g.stopService()
}

// opened waits until the enclave has the key from KMS, under the pinned policy.
func (g *guide) opened() {
	g.Helper()
	ctx, stop := context.WithCancel(g.ctx)
	defer stop()
	found := false
	err := g.service.Follow(ctx, func(line []byte) {
		if bytes.Contains(line, []byte("the enclave signs for this chain")) {
			found = true
			stop()
		}
	})
	if !found {
		g.Fatal(err)
	}
}

// tmkmsLight puts its home onto the instance, with a key under this world's KMS.
func (g *guide) tmkmsLight(from string) {
	g.Helper()
	home := g.root + "/home/ec2-user/.tmkms"
	check(g.T, os.CopyFS(home, os.DirFS(from)))
	seed, err := os.ReadFile(filepath.Join(from, "../tmkms-light/secrets/secret.key"))
	check(g.T, err)
	blob, err := g.world.KMS.Encrypt(world.Key, nil, seed)
	check(g.T, err)
	check(g.T, os.WriteFile(home+"/secrets/secret.key", blob, 0o600))
	toml, err := os.ReadFile(home + "/tmkms.toml")
	check(g.T, err)
	check(g.T, os.WriteFile(home+"/tmkms.toml", []byte(strings.ReplaceAll(string(toml), "ap-southeast-1", "eu-central-1")), 0o600))
	// It was stopped long ago.
	check(g.T, filepath.WalkDir(home, func(path string, _ os.DirEntry, err error) error {
		then := time.Now().Add(-time.Hour)
		return errors.Join(err, os.Chtimes(path, then, then))
	}))
	g.words["crocnclconspub1…"] = "crocnclconspub1zcjduepq6adfsqvzky9t042tlmfujeq88g8wzuhnm2nzxfd0qgdx3ac82ydqrwtmsk"
}

// A shell that keeps its variables and its folder from one block to the next.
type shell struct {
	stdin io.WriteCloser
	lines chan string // closed at its end
}

// newShell starts one in a folder, with more folders on its path.
func (g *guide) newShell(dir string, path ...string) *shell {
	g.Helper()
	cmd := exec.Command("bash", "-eu")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"PATH="+strings.Join(append(append([]string{g.tools}, path...), "/usr/bin", "/bin"), ":"),
		"GUIDE_SOCKETS="+g.world.Instance.Sockets(), "GUIDE_TOOLS="+g.tools, "GUIDE="+filepath.Join(g.world.Instance.Dir, "guide"))
	stdin, err := cmd.StdinPipe()
	check(g.T, err)
	read, write, err := os.Pipe()
	check(g.T, err)
	cmd.Stdout, cmd.Stderr = write, write
	check(g.T, cmd.Start())
	write.Close()
	s := &shell{stdin, make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		r := bufio.NewReader(read)
		for {
			line, err := r.ReadString('\n')
			if s.lines <- line; err != nil {
				return
			}
		}
	}()
	g.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		read.Close()
	})
	return s
}

const prompt = "@@ typed @@\n"

// run types lines and returns what they print. The shell ends at the first one
// that fails.
func (s *shell) run(lines string) (string, error) {
	if _, err := io.WriteString(s.stdin, lines+"\necho '"+strings.TrimSpace(prompt)+"'\n"); err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range s.lines {
		if line == prompt {
			return out.String(), nil
		}
		out.WriteString(line)
	}
	return out.String(), errors.New("a command failed")
}
