// Package guide types doc/sgx.md.
package guide

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"privyseal/internal/policy"
	"privyseal/test/sgx/rig"
	"privyseal/test/tools"
)

// doc/sgx.md, typed: its blocks go into a shell, each where its first line says, and have to
// succeed. privyseal and the enclave's program are the real ones; CPU, Intel and Gramine are
// those of the rig, and systemd and what needs root are stand-ins.
func TestGuide(t *testing.T) {
	g := newGuide(t)
	g.follow("1. The recovery key")
	g.carry("offline/recovery.pub", "mine")
	g.follow("2. The measured policy")
	g.follow("3. The enclave")
	g.carry("mine/sgx", "host")
	g.follow("4. The host")
	key := g.blocks("5. The key")
	g.run(key[0])
	g.carry(home+"/keys/mychain-1.attestation", "mine")
	if out := g.run(key[1]); !strings.Contains(out, "the key was made inside that enclave, and left it only for those who can open its backups") {
		t.Error(out)
	}
	start := g.blocks("6. Start")
	g.run(start[0])
	// There is no node here, and nothing else is wrong.
	if out := g.run(strings.TrimSpace(start[1]) + " || true"); strings.Count(out, "FAIL") != 1 || !strings.Contains(out, "FAIL  mychain-1 node node1") {
		t.Error(out)
	}
	g.run(start[2])

	t.Log("an update of microcode")
	g.update()
	recover := g.blocks("A new CPU, a microcode update, a new build")
	g.recover(recover, "wrap-2")
	if out := g.typed("host", "privyseal status"); !strings.Contains(out, "nothing signed yet") {
		t.Errorf("after the update:\n%s", out)
	}

	t.Log("a lost state")
	lost := g.blocks("The state is lost")
	g.run(lost[0])
	g.carry("mine/floor", home)
	g.typed("host", "systemctl stop privyseal-sgx; rm "+g.in(home)+"/state/*")
	g.enclaveIs("floor")
	g.signature = "mine/floor/privyseal.sig"
	recover[2] = strings.ReplaceAll(recover[2], "systemctl restart privyseal-sgx", "")
	g.recover(recover, "wrap-floor")
	g.run(strings.ReplaceAll(lost[1], "mychain-1.sealed.old-1", "mychain-1.sealed.old-2"))
	g.enclaveIs("sgx")
	g.typed("host", "systemctl start privyseal-sgx")
	if out := g.typed("host", "privyseal status"); !strings.Contains(out, "height 12345678") {
		t.Errorf("with the new state:\n%s", out)
	}

	t.Log("another recovery key")
	g.exchange()
	if out := g.typed("host", "privyseal status"); !strings.Contains(out, "height 12345678") {
		t.Errorf("with another recovery key:\n%s", out)
	}

	t.Log("a key of tmkms-light's SGX enclave")
	g.typed("host", "systemctl stop privyseal-sgx; cd "+g.in(home)+"; rm -r keys state privyseal.toml *.key *.b64")
	g.fromTMKMSLight()
	g.typed("host", "systemctl start privyseal-sgx")
	if out := g.typed("host", "privyseal status"); !strings.Contains(out, "height 123,") {
		t.Errorf("after tmkms-light:\n%s", out)
	}
}

// exchange types what is to be done for another recovery key.
func (g *guide) exchange() {
	g.Helper()
	blocks := g.blocks("Another recovery key")
	g.run(blocks[0])
	g.carry("offline/recovery-2.pub", "mine")
	g.run(blocks[1])
	g.carry("mine/sgx-3", home)
	g.carry("offline/mychain-1-2.backup", home)
	g.enclaveIs("sgx-3")
	g.run(blocks[2])
	g.carry(home+"/wrap-3.b64", "offline")
	g.carry("mine/sgx-3/privyseal.sig", "offline")
	g.run(blocks[3])
	g.carry("offline/external-3.key", home)
	g.run(blocks[4])
	g.carry(home+"/now-3.b64", "mine")
	g.carry("platform.json", "mine")
	name, err := os.ReadFile(g.in("offline/recovery-2.pub"))
	g.must(err)
	r, err := policy.ParseRecipient(strings.TrimSpace(string(name)))
	g.must(err)
	if out := g.run(blocks[5]); !strings.Contains(out, "backups for "+r.ID()+"\n") {
		g.Error(out)
	}
}

// fromTMKMSLight types how a key of tmkms-light's SGX enclave comes in, with the files of the
// script of make-backup, and an operator who confirms the state.
func (g *guide) fromTMKMSLight() {
	g.Helper()
	script, err := txtar.ParseFile("../../../cmd/privyseal/testdata/sgx/make-backup.txtar")
	g.must(err)
	names := map[string]string{"consensus-key.backup": "consensus-key.backup", "light.key": "hsm.key", "light-state.json": "priv_validator_state.json"}
	for _, f := range script.Files {
		if name := names[f.Name]; name != "" {
			g.must(os.WriteFile(g.in("offline/"+name), f.Data, 0o600))
		}
	}
	g.typed("offline", "rm mychain-1.backup")
	const confirm = " --yes"
	blocks := g.blocks("Coming from tmkms-light's SGX enclave")
	g.run(strings.TrimSpace(blocks[0]) + confirm)
	g.run(blocks[1])
	g.carry(home+"/wrap.b64", "offline")
	g.carry("mine/sgx/privyseal.sig", "offline")
	g.run(blocks[2])
	for _, file := range []string{"mychain-1.backup", "external.key", "state.json"} {
		g.carry("offline/"+file, home)
	}
	if out := g.run(strings.TrimSpace(blocks[3]) + confirm); !strings.Contains(out, "imported, from a backup") {
		g.Error(out)
	}
}

// home is that of privyseal, below the folder of all.
const home = "root/var/lib/privyseal"

type guide struct {
	*testing.T
	dir, text string
	machine   *rig.Machine
	signature string // of the enclave that a backup is opened for
}

// newGuide makes the three machines: folders, with programs that stand in front of the real
// ones.
func newGuide(t *testing.T) *guide {
	t.Helper()
	if err := rig.Available(); err != nil {
		if os.Getenv("PRIVYSEAL_REQUIRE_SGX") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	text, err := os.ReadFile("../../../doc/sgx.md")
	g := &guide{T: t, dir: t.TempDir(), text: string(text), signature: "mine/sgx/privyseal.sig"}
	for _, dir := range []string{"mine", "offline", "host", "root/etc/systemd/system", "root/etc/profile.d", "root/usr/local/bin", "root/var/lib", "real", "rig", "mine-bin", "offline-bin", "host-bin"} {
		err = errors.Join(err, os.MkdirAll(g.in(dir), 0o755))
	}
	g.must(errors.Join(err, os.Mkdir(g.in("run"), 0o700))) // one key is the same in each run
	g.machine, err = rig.New(g.in("rig"))
	g.must(errors.Join(err, tools.BuildMeasured(t.Context(), g.in("real/privyseal-sgx"))))
	build := exec.Command("go", "build", "-o", g.in("real/privyseal"), "privyseal/cmd/privyseal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, script := range map[string]string{
		"mine-bin/privyseal": `case "$1 $2" in
"sgx policy") exec "$REAL" "$@" --attestation-root "$DIR/root.pem";;
"sgx collateral") cp "$DIR/platform.json" "$3"; exit;;
verify*) exec "$REAL" "$@" --test-root "$DIR/root.pem";;
esac
exec "$REAL" "$@"`,
		"offline-bin/privyseal": `[ "$2" != open-backup ] || exec "$REAL" "$@" --test-root "$DIR/root.pem"
exec "$REAL" "$@"`,
		"host-bin/privyseal": `exec "$REAL" "$@"`,
		"host-bin/useradd":   `exit 0`,
		"host-bin/chown":     `exit 0`,
		"host-bin/setpriv":   `while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"`,
		"host-bin/install": `for word; do shift; case "$word" in -o|-g) skip=1; continue;; esac
[ -z "$skip" ] || { skip=; continue; }; set -- "$@" "$word"; done
exec /usr/bin/install "$@"`,
		"host-bin/systemctl": `if [ -f "$DIR/pid" ]; then kill "$(cat "$DIR/pid")"; while kill -0 "$(cat "$DIR/pid")" 2>/dev/null; do sleep 0.05; done; rm "$DIR/pid"; fi
[ "$1" != stop ] || exit 0
"$REAL" start >>"$DIR/log" 2>&1 & echo $! >"$DIR/pid"
for n in $(seq 200); do "$REAL" status 2>/dev/null | grep -q '^  mark' && exit 0; sleep 0.05; done
tail -5 "$DIR/log"; exit 1`,
	} {
		g.must(os.WriteFile(g.in(name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	g.platform()
	for _, file := range []string{"systemd/privyseal-sgx.service", "doc/sgx.md"} {
		g.must(exec.Command("cp", "../../../"+file, g.in("host")).Run())
	}
	g.must(exec.Command("cp", g.in("real/privyseal"), g.in("host")).Run())
	t.Cleanup(g.stop)
	return g
}

func (g *guide) in(path string) string { return filepath.Join(g.dir, path) }

func (g *guide) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// stop ends what systemctl has started.
func (g *guide) stop() {
	text, err := os.ReadFile(g.in("pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		syscall.Kill(pid, syscall.SIGTERM)
	}
	if g.Failed() {
		log, _ := os.ReadFile(g.in("log"))
		g.Logf("%s", log)
	}
}

// platform has Intel certify the machine as it is.
func (g *guide) platform() {
	g.Helper()
	collateral, err := g.machine.Collateral()
	g.must(errors.Join(err, os.WriteFile(g.in("platform.json"), collateral, 0o644), os.WriteFile(g.in("root.pem"), g.machine.RootPEM(), 0o644)))
}

// update brings new microcode: the sealed keys do not open any more.
func (g *guide) update() {
	g.Helper()
	g.must(g.machine.UpdateMicrocode())
	g.platform()
	g.typed("host", "systemctl stop privyseal-sgx")
}

// recover types the blocks about a backup, with a wrap key of its own.
func (g *guide) recover(blocks []string, wrap string) {
	g.Helper()
	for i := range 3 {
		text := strings.ReplaceAll(blocks[i], "wrap-2", wrap)
		switch i {
		case 1:
			g.carry(home+"/wrap.b64", "offline")
			g.carry(home+"/keys/mychain-1.backup", "offline")
			g.carry(g.signature, "offline")
			g.carry("platform.json", "offline")
		case 2:
			g.carry("offline/external.key", home)
		}
		g.run(text)
	}
	for _, used := range []string{home + "/wrap.b64", "offline/external.key"} {
		g.must(os.Remove(g.in(used)))
	}
}

// enclaveIs names the folder of the enclave in the config.
func (g *guide) enclaveIs(folder string) {
	g.Helper()
	path := g.in(home + "/privyseal.toml")
	text, err := os.ReadFile(path)
	g.must(err)
	line := regexp.MustCompile(`(?m)^folder = "[^"]*"`)
	g.must(os.WriteFile(path, line.ReplaceAll(text, fmt.Appendf(nil, "folder = %q", folder)), 0o600))
}

// carry copies a file or folder into a folder.
func (g *guide) carry(from, to string) {
	g.Helper()
	if out, err := exec.Command("cp", "-r", g.in(from), g.in(to)).CombinedOutput(); err != nil {
		g.Fatalf("%v: %s", err, out)
	}
}

// blocks returns what there is to type below a heading.
func (g *guide) blocks(heading string) (list []string) {
	g.Helper()
	_, section, found := strings.Cut(g.text, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		list = append(list, m[1])
	}
	if !found || len(list) == 0 {
		g.Fatalf("the guide has nothing to type under %q", heading)
	}
	return list
}

func (g *guide) follow(heading string) {
	g.Helper()
	for _, block := range g.blocks(heading) {
		g.run(block)
	}
}

// run types a block where its first line says.
func (g *guide) run(block string) string {
	g.Helper()
	first, _, _ := strings.Cut(block, "\n")
	for says, where := range map[string]string{"# on your machine": "mine", "# offline": "offline", "# on the host, as root": "host"} {
		if strings.HasPrefix(first, says) {
			return g.typed(where, block)
		}
	}
	g.Fatalf("where is %q typed?", first)
	return ""
}

// typed types a text somewhere, and returns what is printed.
func (g *guide) typed(where, text string) string {
	g.Helper()
	for _, folder := range []string{"/var/lib", "/usr/local", "/etc/"} {
		text = strings.ReplaceAll(text, " "+folder, " "+g.dir+"/root"+folder)
		text = strings.ReplaceAll(text, "="+folder, "="+g.dir+"/root"+folder)
	}
	cmd := exec.Command("bash", "-euc", "CHAIN=mychain-1\n"+text)
	cmd.Dir = g.in(where)
	if _, err := os.Stat(g.in(home + "/keys")); err == nil && where == "host" {
		cmd.Dir = g.in(home)
	}
	cmd.Env = append(os.Environ(), "DIR="+g.dir, "REAL="+g.in("real/privyseal"), "PRIVYSEAL_HOME="+g.in(home), "PRIVYSEAL_RUN="+g.in("run"),
		"PATH="+g.in(where+"-bin")+":"+g.machine.Path()+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.Fatalf("typed %s:\n%s\n%v\n%s", where, text, err, out)
	}
	return string(out)
}
