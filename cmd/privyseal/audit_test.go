package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"privyseal/internal/key/yubihsm/auditlog"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	hsm "privyseal/yubihsm"
)

// auditedHome is a home whose chain signs on a device that refuses to when its log is full.
type auditedHome struct {
	*liveHome
	dev  *yubihsmtest.Device
	node *busyNode
	addr string // of the metrics
}

func newAuditedHome(t *testing.T) *auditedHome {
	t.Helper()
	l := newLiveHome(t)
	t.Setenv("PRIVYSEAL_RUN", filepath.Join(l.dir, "run"))
	password := filepath.Join(l.dir, "password")
	if err := os.WriteFile(password, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &auditedHome{liveHome: l, dev: yubihsmtest.New(t, yubihsmtest.Options{RealTime: true}), addr: freePort(t)}
	a.dev.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanGetLog)
	a.dev.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 7, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, make([]byte, 32))
	a.dev.Audit(true, yubihsmtest.CreateSession, yubihsmtest.AuthenticateSession, yubihsmtest.GetLogEntries, yubihsmtest.SetLogIndex)
	runCommand(t, "privyseal", "init", "--home", l.home, "--chain-id", "one", "--node", "a=unix://"+l.socket("one"), "--provider", "yubihsm", "--yubihsm-auth-key", "4",
		"--yubihsm-password-file", password, "--yubihsm-key-id", "7", "--yubihsm-take", "--fresh-state", "--yes", "--yubihsm-device", a.dev.URL(), "--yubihsm-audit-dir", filepath.Join(l.home, "audit"))
	config := filepath.Join(l.home, "privyseal.toml")
	text, err := os.ReadFile(config)
	if err == nil {
		text = regexp.MustCompile(`(?m)^listen = .*$`).ReplaceAll(text, []byte(`listen = "`+a.addr+`"`))
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.node = newBusyNode(t, l.socket("one"), "one", &atomic.Int64{})
	return a
}

// audit runs `privyseal yubihsm audit` and returns what it finds, and its exit status.
func (a *auditedHome) audit(args ...string) (r auditlog.Report, status int) {
	a.t.Helper()
	cmd := exec.Command("privyseal", append([]string{"yubihsm", "audit", "--json"}, args...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, err = exit.ExitCode(), nil
	}
	var list []auditlog.Report
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil || len(list) != 1 {
		a.t.Fatalf("%v: %s", err, out)
	}
	return list[0], status
}

// foreign has somebody else sign what may be a vote, with the signer's own password.
func (a *auditedHome) foreign() {
	a.t.Helper()
	transport, err := hsm.Open(a.dev.URL())
	if err != nil {
		a.t.Fatal(err)
	}
	defer transport.Close()
	s, err := hsm.Authenticate(a.t.Context(), transport, 4, hsm.DeriveKey([]byte("four")))
	if err == nil {
		defer s.Close(a.t.Context())
		_, err = s.SignEdDSA(a.t.Context(), 7, []byte("a vote of somebody else's"))
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// metric returns the value of a metric of the device.
func (a *auditedHome) metric(name string) string {
	a.t.Helper()
	resp, err := http.Get("http://" + a.addr + "/metrics")
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(text), fmt.Sprintf("privyseal_device_%s{chain_id=\"one\",device=%q} ", name, a.dev.URL()))
	value, _, _ = strings.Cut(value, "\n")
	return value
}

// TestAuditOfALiveSigner: a signer drains the log while a node is served as fast as it can
// be, and all its signatures are found to be its own. One of somebody else is found while it
// runs, and by the command.
func TestAuditOfALiveSigner(t *testing.T) {
	a := newAuditedHome(t)
	a.start()
	for range 5 {
		a.node.signsOn()
	}
	if out := runCommand(t, "privyseal", "check", "--home", a.home); strings.Contains(out, "cannot drain") {
		t.Error(out)
	}
	eventually(t, "the log is drained", func() bool { return a.metric("log_drained") == "1" && a.metric("foreign_signatures_total") == "0" })
	r, status := a.audit("--home", a.home)
	if status != 0 || len(r.Findings) > 0 || !r.Running || r.Matched == 0 {
		t.Errorf("%d, %+v", status, r)
	}
	a.foreign()
	eventually(t, "the foreign signature is found", func() bool { a.node.signsOn(); return a.metric("foreign_signatures_total") == "1" })
	if page := runCommand(t, "privyseal", "status", "--home", a.home); !strings.Contains(page, "its log has 1 signature that nobody of ours asked for") {
		t.Error(page)
	}
	a.stop()
	r, status = a.audit("--home", a.home)
	if status == 0 || len(r.Findings) != 1 || r.Findings[0].Kind != auditlog.Foreign || r.Findings[0].Count != 1 || r.Running {
		t.Errorf("%d, %+v", status, r)
	}
}

// wrongIn returns the findings that no crash explains, and whether the log was full when a
// session was opened: the node asks faster than a busy machine drains the log.
func wrongIn(r auditlog.Report) (wrong []auditlog.Finding, full bool) {
	for _, f := range r.Findings {
		switch f.Kind {
		case auditlog.Unmatched, auditlog.Torn:
		case auditlog.Unlogged:
			full = true
		default:
			wrong = append(wrong, f)
		}
	}
	return wrong, full
}

// TestAuditAfterCrashes: wherever a signer is killed, the next one goes on, nothing of the
// log is lost, and no signature is taken for somebody else's. Then one that is, is found.
func TestAuditAfterCrashes(t *testing.T) {
	a := newAuditedHome(t)
	for _, step := range []struct {
		name    string
		command byte
		fault   func() yubihsmtest.Fault
	}{
		{"before a signature", yubihsmtest.SignEdDSA, func() yubihsmtest.Fault { return a.dev.Hang() }},
		{"before the log is read", yubihsmtest.GetLogEntries, func() yubihsmtest.Fault { return a.dev.Hang() }},
		{"after it is saved", yubihsmtest.SetLogIndex, func() yubihsmtest.Fault { return a.dev.Hang() }},
		{"at any time", yubihsmtest.SignEdDSA, nil},
		{"at any other time", yubihsmtest.SetLogIndex, nil},
	} {
		a.start()
		a.node.signsOn()
		before := a.dev.Count(step.command)
		if step.fault != nil {
			a.dev.Next(step.command, step.fault())
		}
		eventually(t, step.name, func() bool { return a.dev.Count(step.command) > before })
		a.process.cmd.Process.Signal(syscall.SIGKILL)
		a.process.cmd.Wait()
		a.dev.Heal()
		r, _ := a.audit("--check", filepath.Join(a.home, "audit"))
		if wrong, _ := wrongIn(r); len(wrong) > 0 || !r.Running {
			t.Errorf("killed %s: %+v", step.name, r)
		}
	}
	a.start()
	a.node.signsOn()
	a.stop()
	r, status := a.audit("--home", a.home)
	unmatched := 0
	for _, f := range r.Findings {
		unmatched += f.Count
	}
	wrong, full := wrongIn(r)
	if len(wrong) > 0 || (status != 0) != full || unmatched > 5*yubihsmtest.LogSize || r.Signatures != r.Matched+unmatched+r.Before+r.Probes {
		t.Errorf("%d, %+v", status, r)
	}
	a.foreign()
	if r, status := a.audit("--home", a.home); status == 0 || r.Findings[len(r.Findings)-1].Kind != auditlog.Foreign {
		t.Errorf("%d, %+v", status, r.Findings)
	}
}

// TestAuditOfAStandby: a signer that stands by leaves the log alone. When it takes over, from
// one that stops and from one that is killed, what both have signed is found to be ours.
func TestAuditOfAStandby(t *testing.T) {
	a := newAuditedHome(t)
	a.start()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		a.node.signsOn()
		standby := startSignerTo(t, a.home, a.log, "--standby")
		if what := standby.waitReady(t); !strings.Contains(what, "standby") {
			t.Fatalf("it is %q", what)
		}
		a.node.signsOn()
		a.process.cmd.Process.Signal(signal)
		a.process.cmd.Wait()
		a.process = standby
		a.node.signsOn()
	}
	a.stop()
	r, status := a.audit("--home", a.home)
	if wrong, full := wrongIn(r); len(wrong) > 0 || (status != 0) != full {
		t.Errorf("%d, %+v", status, r)
	}
}
