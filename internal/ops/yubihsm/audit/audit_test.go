package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm/auditlog"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
	hsm "privyseal/yubihsm"
)

// newWorld returns a home folder whose signer may drain the logs of n devices into audit.
func newWorld(t *testing.T, n int) *reachtest.World {
	w := reachtest.New(t, n)
	w.Command = func(a *provider.House) *cobra.Command { return NewCommand(a.App) }
	w.Provision(7, yubihsmtest.Ed25519, 1)
	w.Install(7)
	for _, d := range w.Dev {
		d.ProvisionAuth(t, 4, "four", reachtest.Signs|yubihsmtest.CanGetLog)
		d.Audit(true)
	}
	c := w.Config()
	c.Tables[reach.Table]["main"].(*reach.Set).AuditDir = "audit"
	if err := os.WriteFile(filepath.Join(w.Home, config.FileName), c.Render(), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// sign has the signer's authentication key sign, behind the back of any signer.
func sign(t *testing.T, w *reachtest.World, device int, message string) {
	t.Helper()
	key := hsm.DeriveKey([]byte("four"))
	transport, err := hsm.Open(w.Devices[device])
	if err != nil {
		t.Fatal(err)
	}
	defer transport.Close()
	s, err := hsm.Authenticate(t.Context(), transport, 4, key)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	if _, err := s.SignEdDSA(t.Context(), 7, []byte(message)); err != nil {
		t.Fatal(err)
	}
}

// What each device has logged is saved, then forgotten, and then checked.
func TestAudit(t *testing.T) {
	w := newWorld(t, 2)
	w.Must("0 signatures of our keys")
	sign(t, w, 0, "a vote that no signer of ours asked for")
	sign(t, w, 1, reach.NoVote)
	out, err := w.Run()
	_, act := errors.AsType[cli.ActError](err)
	if !act || !strings.Contains(err.Error(), "1 finding in the logs") {
		t.Error(err)
	}
	for _, want := range []string{
		`(?m)^YubiHSM 0012345678: 3 entries in 1 file, last written 20`, `(?m)^YubiHSM 0012345679: 3 entries in 1 file`,
		`(?m)^  1 signature of our keys: 0 asked for by a signer of ours, 0 too short for a vote, 0 from before`, `0 asked for by a signer of ours, 1 too short for a vote`,
		`(?m)^  FAIL no signer of ours asked for 1 signature of key 0x0007, of 39 bytes, made with authentication key 0x0004: entry 3$`, `(?m)^  last line: [0-9a-f]{32}$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	for i, d := range w.Dev {
		if n := len(d.Log()); n > 0 {
			t.Errorf("device %d has %d entries", i, n)
		}
		if n := d.Sessions(); n > 0 {
			t.Errorf("device %d has %d sessions", i, n)
		}
	}

	// The files say the same without the devices.
	for _, path := range []string{"audit", "audit/0012345678-000001.log"} {
		again, err := w.Run("--check", filepath.Join(w.Home, path))
		if err == nil || !strings.HasPrefix(out, again) {
			t.Errorf("%v\n%s", err, again)
		}
	}
	text, err := w.Run("--check", filepath.Join(w.Home, "audit"), "--json")
	var reports []auditlog.Report
	if wrong := json.Unmarshal([]byte(text), &reports); err == nil || wrong != nil || len(reports) != 2 || reports[0].Findings[0].Kind != auditlog.Foreign || reports[0].Findings[0].Numbers[0] != 3 {
		t.Errorf("%v, %v: %s", err, wrong, text)
	}
}

// Devices of no config are drained as well, and the flags say which keys are ours.
func TestAuditWithoutAConfig(t *testing.T) {
	w := newWorld(t, 1)
	w.Home = ""
	flags := w.AsSigner("--out", w.Path("logs"), "--key-id", "0x0007")
	w.Must("2 entries", flags...)
	sign(t, w, 0, "a vote that no signer of ours asked for")
	if out, err := w.Run(flags...); err == nil || !strings.Contains(out, "FAIL no signer of ours asked for 1 signature of key 0x0007") {
		t.Errorf("%v\n%s", err, out)
	}
}

// yubihsm-shell has the same entries, with the same digests.
func TestShellHasTheSameEntries(t *testing.T) {
	w := newWorld(t, 1)
	program := filepath.Join(yubihsmtest.Programs(t, "yubihsm-shell"), "yubihsm-shell")
	sign(t, w, 0, "a vote")
	sign(t, w, 0, "another vote")
	shell, err := exec.Command(program, "-C", w.Devices[0], "-p", "password", "-a", "get-logs").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, shell)
	}
	w.Must("4 entries")
	ours, err := os.ReadFile(filepath.Join(w.Home, "audit/0012345678-000001.log"))
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string
	for _, m := range regexp.MustCompile(`item: +(\d+) -- cmd: (0x..) -- length: +(\d+) -- session key: (0x....) -- target key: (0x....) -- second key: (0x....) -- result: (0x..) -- tick: (\d+) -- hash: ([0-9a-f]{32})`).FindAllStringSubmatch(string(shell), -1) {
		theirs = append(theirs, "entry "+strings.Join(m[1:], " "))
	}
	if len(theirs) != 4 {
		t.Fatalf("%d entries in %s", len(theirs), shell)
	}
	for _, entry := range theirs {
		if !strings.Contains(string(ours), "\n"+entry+" ") {
			t.Errorf("%s is not in\n%s", entry, ours)
		}
	}
}

// The command that is printed makes an authentication key that signs and drains the log.
func TestPrintedCommandWorks(t *testing.T) {
	w := newWorld(t, 1)
	bin := yubihsmtest.Programs(t, "yubihsm-shell")
	w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs)
	_, err := w.Run()
	m := regexp.MustCompile("`yubihsm-shell (.+)`").FindStringSubmatch(fmt.Sprint(err))
	if m == nil {
		t.Fatal(err)
	}
	shell := func(typed string) {
		t.Helper()
		if out, err := exec.Command(filepath.Join(bin, "yubihsm-shell"), strings.Fields(typed+" -p password")...).CombinedOutput(); err != nil {
			t.Fatalf("yubihsm-shell %s: %v\n%s", typed, err, out)
		}
	}
	shell(strings.NewReplacer("ADMIN", "1", "NEW", "5").Replace(m[1]) + " --new-password five")
	w.Must("2 entries", "--out", filepath.Join(w.Home, "audit"), "--device", w.Devices[0], "--auth-key", "5", "--password-file", w.File("five", "five"))

	// So do those of doc/yubihsm.md and of check, which have options.
	guide, err := os.ReadFile("../../../../doc/yubihsm.md")
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`--opt-name \S+ --opt-value [0-9a-f]+`).FindAllString(string(guide), -1)
	if len(options) != 2 {
		t.Errorf("the guide has %q", options)
	}
	for _, option := range append(options, "--opt-name command-audit --opt-value 05000600") {
		shell("--connector " + w.Devices[0] + " --authkey 1 --action put-option " + option)
	}
}

// A signer that runs has the files and drains the logs: they are checked as they are.
func TestBesideASigner(t *testing.T) {
	w := newWorld(t, 1)
	w.Must("2 entries")
	signer, err := auditlog.Begin(filepath.Join(w.Home, "audit"), yubihsmtest.DefaultSerial, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer signer.Close()
	before := w.Dev[0].Count(yubihsmtest.SetLogIndex)
	w.Must("is in use, as by the signer that runs")
	if n := w.Dev[0].Count(yubihsmtest.SetLogIndex); n != before {
		t.Error("drained behind the signer's back")
	}
}

// What keeps a log from being drained is said, and what is there already shown.
func TestAuditRefusals(t *testing.T) {
	w := newWorld(t, 1)
	w.Must("2 entries")
	w.Dev[0].ProvisionAuth(t, 4, "four", reachtest.Signs)
	out, err := w.Run()
	if err == nil || !strings.Contains(err.Error(), "may not read the log: it lacks the capability get-log-entries\nname another one with --out, --device, --auth-key and --password-file, or make one for the signer: `yubihsm-shell --connector http://127") || !strings.Contains(out, "2 entries") {
		t.Errorf("%v\n%s", err, out)
	}
	w.Dev[0].ProvisionAuth(t, 3, "four", yubihsmtest.CanGetLog)
	w.Must("2 entries", "--out", filepath.Join(w.Home, "audit"), "--device", w.Devices[0], "--auth-key", "3", "--password-file", w.Path("four"))
	w.Refuses("there is no folder for the logs -> add --out DIR, or audit_dir", "--device", w.Devices[0], "--auth-key", "3", "--password-file", w.Path("four"))
	w.Refuses("--key-id \"65536\" is not from 1 to 65535", "--key-id", "65536")
	w.Refuses("--key-id \"0\" is not from 1 to 65535", "--key-id", "7,0")
	w.Refuses("--check asks no device", "--check", w.Home, "--out", "x")
	w.Refuses("cannot check the audit log: stat", "--check", filepath.Join(w.Home, "nothing"))
	w.Refuses("there is no audit log in", "--check", w.Home)
	w.Refuses("is not the audit log of a YubiHSM", "--check", filepath.Join(w.Home, config.FileName))
	w.Dev[0].StopConnector()
	if out, err := w.Run(); err == nil || !strings.Contains(err.Error(), "cannot drain the log of the YubiHSM at ") || !strings.Contains(out, "2 entries") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A disk that cannot take the log leaves it on the device.
func TestDiskCannotTakeIt(t *testing.T) {
	w := newWorld(t, 1)
	if err := os.WriteFile(filepath.Join(w.Home, "audit"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Refuses("cannot drain the log of the YubiHSM at ")
	if n := len(w.Dev[0].Log()); n != 2 {
		t.Errorf("%d entries are left", n)
	}
}
