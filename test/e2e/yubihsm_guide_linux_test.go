package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/setup/setuptest"
	"privyseal/internal/terminal/terminaltest"
	"privyseal/test/e2e/story"
)

// A chain whose key is on a YubiHSM, set up as doc/yubihsm.md says: its blocks are typed, in
// order, at a terminal, where somebody writes the words down. The node makes blocks, with vote
// extensions where there are any, stands while the connector is gone, goes on when it is back,
// and after a device that is unplugged while it signs; a key that is exchanged stops it.
func TestYubiHSM(t *testing.T) {
	for _, version := range turnOf(t, hsmVersions) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			typesYubiHSM(t, version)
		})
	}
}

func typesYubiHSM(t *testing.T, version string) {
	ctx := story.Within(t, 2*time.Minute)
	y := newHSMChain(ctx, t, version, 2)
	for _, d := range y.dev {
		d.Reset() // as it leaves the factory
	}
	tty := terminaltest.New(t)
	cmd := typing(t, "yubihsm.md", y.dir, 5, "PATH="+trusting(t, y.dev[0])+":"+os.Getenv("PATH"), "DEVICE="+y.dev[0].URL(), "SECOND="+y.dev[1].URL(),
		"NODE="+y.addr, "PRIVYSEAL_HOME="+y.signer.Home, "TERM=xterm-256color")
	text, wait := at(t, tty, cmd)
	list := setuptest.Read(t, tty)
	setuptest.Type(t, tty, list)
	setuptest.Type(t, tty, list) // of the second device
	if err := wait(); err != nil {
		t.Fatalf("yubihsm.md fails: %v\n%s", err, text)
	}
	if strings.Contains(text.String(), "FAIL") || !strings.Contains(text.String(), " signs with key 0x0001 in ") {
		t.Errorf("check says\n%s", text)
	}
	for _, want := range []string{"keys/mychain-1.attestation does not verify: ", "saved spare.attestation: YubiHSM 0012345678, ", "\n  + the key was made in this device\n  + it does not leave the device"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if n := len(y.dev[1].Objects()); n != 6 {
		t.Errorf("the second device has %d objects", n)
	}
	keepsNone(t, tty, text.String(), list)
	y.start(ctx)
	y.goesOn(ctx)

	y.dev[0].StopConnector()
	says(ctx, t, y.signer, "no answer from the YubiHSM connector")
	y.dev[0].StartConnector(t)
	y.goesOn(ctx)

	y.dev[0].Next(yubihsmtest.SignEdDSA, yubihsmtest.UnpluggedWithin())
	says(ctx, t, y.signer, "reaches no device")
	y.dev[0].Plug()
	y.goesOn(ctx)

	y.dev[0].Swap(t, 1)
	says(ctx, t, y.signer, ", not ed25519 ")
}

// trusting returns a folder with a privyseal that trusts the root of a simulated device in the
// place of Yubico's, where it is not told which one.
func trusting(t *testing.T, d *yubihsmtest.Device) string {
	t.Helper()
	dir := t.TempDir()
	root, middle := d.Root()
	for name, c := range map[string]*x509.Certificate{"root.pem": root, "sub-ca.pem": middle} {
		check(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
	}
	script := fmt.Sprintf(`#!/bin/sh
case "$1 $2" in
"verify "*) exec %[1]s "$@" --root %[2]s/root.pem ;;
"yubihsm generate") exec %[1]s "$@" --root %[2]s/root.pem --sub-ca %[2]s/sub-ca.pem ;;
esac
exec %[1]s "$@"
`, program, dir)
	check(t, os.WriteFile(filepath.Join(dir, "privyseal"), []byte(script), 0o700))
	return dir
}

// at starts a program at a terminal, which is its session's, with its output beside it. It
// returns where that goes, and how to wait for the end.
func at(t *testing.T, tty *terminaltest.Terminal, cmd *exec.Cmd) (out *bytes.Buffer, wait func() error) {
	t.Helper()
	out = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{tty.Tty}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	check(t, cmd.Start())
	return out, cmd.Wait
}

// keepsNone fails the test if words are in what a terminal keeps, or in what was printed
// elsewhere.
func keepsNone(t *testing.T, tty *terminaltest.Terminal, printed string, list []string) {
	t.Helper()
	kept := tty.Keeps()
	spoken := strings.FieldsFunc(kept+" "+printed, func(r rune) bool { return r < 'a' || r > 'z' })
	said := 0
	for _, word := range list {
		if slices.Contains(spoken, word) {
			said++ // a word of the list can be one that is said anyway
		}
	}
	if said > len(list)/3 {
		t.Errorf("of the words %q, the terminal keeps %q, and there is\n%s", list, kept, printed)
	}
	if !tty.Echoes() {
		t.Error("the terminal is left without echo")
	}
}

// The words reach the person at the terminal and nobody else, whatever standard input and
// output are. The command that `setup` shows at its end makes a home folder whose signer
// signs.
func TestYubiHSMSetup(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	d := yubihsmtest.New(t, yubihsmtest.Options{RealTime: true})
	tty := terminaltest.New(t)
	cmd := exec.Command("sh", "-c", `ulimit -S -c "$(ulimit -H -c)" && exec "$0" "$@"`, program, "yubihsm", "setup", "--device", d.URL())
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TERM=xterm")
	out, wait := at(t, tty, cmd)
	list := setuptest.Read(t, tty)
	limits, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "limits"))
	if err != nil || !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("%v, core files are allowed:\n%s", err, limits)
	}
	mistaken := slices.Clone(list)
	mistaken[11] += "x"
	setuptest.Type(t, tty, mistaken[:12])
	tty.Reads("Word 12 is not the one that was shown.")
	tty.Types("\r")
	if again := setuptest.Read(t, tty); !slices.Equal(again, list) {
		t.Errorf("first %q, then %q", list, again)
	}
	setuptest.Type(t, tty, list)
	if err := wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	keepsNone(t, tty, out.String(), list)
	next := regexp.MustCompile("(?m)^next: `(.*)`$").FindStringSubmatch(out.String())
	if next == nil {
		t.Fatalf("it names no command:\n%s", out)
	}
	line := strings.NewReplacer("CHAIN-ID", "mychain-1", "ADDR", "unix:///run/node.sock").Replace(next[1]) + " && privyseal check"
	sh := exec.Command("sh", "-c", line)
	sh.Dir, sh.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "PRIVYSEAL_HOME="+filepath.Join(dir, "home"))
	printed, err := sh.CombinedOutput()
	if err != nil && !strings.Contains(string(printed), "node.sock") || !strings.Contains(string(printed), " signs with key 0x0001 in ") {
		t.Errorf("%s: %v\n%s", line, err, printed)
	}
}

// ^C and its like, SIGTERM, and the end of what is typed leave the terminal as it was, and the device, and
// say so.
func TestYubiHSMSetupStopped(t *testing.T) {
	t.Parallel()
	d := yubihsmtest.New(t, yubihsmtest.Options{RealTime: true})
	for name, stop := range map[string]func(tty *terminaltest.Terminal, p *os.Process){
		"^C":      func(tty *terminaltest.Terminal, _ *os.Process) { tty.Types("\x03") },
		"^Z, ^\\": func(tty *terminaltest.Terminal, _ *os.Process) { tty.Types("\x1a\x1c") },
		"SIGTERM": func(_ *terminaltest.Terminal, p *os.Process) { check(t, p.Signal(syscall.SIGTERM)) },
		"^D":      func(tty *terminaltest.Terminal, _ *os.Process) { tty.Types("\x04") },
	} {
		for when, until := range map[string]string{"at the page": "Press Return when they are written down", "while typing": "Word 1 of 24: "} {
			tty := terminaltest.New(t)
			cmd := exec.Command(program, "yubihsm", "setup", "--device", d.URL())
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "TERM=xterm")
			out, wait := at(t, tty, cmd)
			if when == "while typing" {
				setuptest.Read(t, tty)
			}
			tty.Reads(until)
			stop(tty, cmd.Process)
			err := wait()
			if err == nil || !strings.Contains(out.String(), "nothing on the device has changed") || !tty.Echoes() {
				t.Errorf("%s %s: %v, echo %v\n%s", name, when, err, tty.Echoes(), out)
			}
			if strings.Count(tty.Keeps(), "\n") > 5 || strings.Contains(tty.Keeps(), "come from these") {
				t.Errorf("%s %s: the terminal keeps\n%s", name, when, tty.Keeps())
			}
		}
	}
	if len(d.Objects()) != 1 {
		t.Errorf("the device has %v", d.Objects())
	}
}

// Without a terminal no words are made, whatever standard output is.
func TestYubiHSMSetupWithoutTerminal(t *testing.T) {
	t.Parallel()
	d := yubihsmtest.New(t, yubihsmtest.Options{})
	cmd := exec.CommandContext(context.Background(), program, "yubihsm", "setup", "--device", d.URL())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin = strings.NewReader("\n\n")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "this needs a terminal") || d.Count(yubihsmtest.Any) != 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
