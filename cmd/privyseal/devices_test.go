package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/monitor"
)

// TestDevicesOfALiveSigner: of two devices one hangs and one goes, while a node is served.
// Status, readiness and metrics say which one and why, at once, and it signs on as long as
// one is left.
func TestDevicesOfALiveSigner(t *testing.T) {
	l := newLiveHome(t)
	t.Setenv("PRIVYSEAL_RUN", filepath.Join(l.dir, "run"))
	password := filepath.Join(l.dir, "password")
	if err := os.WriteFile(password, []byte("four and a secret word"), 0o600); err != nil {
		t.Fatal(err)
	}
	var devices []*yubihsmtest.Device
	args := []string{"init", "--home", l.home, "--chain-id", "one", "--node", "a=unix://" + l.socket("one"), "--provider", "yubihsm", "--yubihsm-auth-key", "4",
		"--yubihsm-password-file", password, "--yubihsm-key-id", "7", "--yubihsm-take", "--fresh-state", "--yes"}
	for range 2 {
		d := yubihsmtest.New(t, yubihsmtest.Options{Serial: yubihsmtest.DefaultSerial + uint32(len(devices))})
		d.ProvisionAuth(t, 4, "four and a secret word", yubihsmtest.CanSignEdDSA)
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 7, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, make([]byte, 32))
		devices = append(devices, d)
		args = append(args, "--yubihsm-device", d.URL())
	}
	runCommand(t, "privyseal", args...)
	addr := freePort(t)
	text, err := os.ReadFile(filepath.Join(l.home, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	// The usual port may be in use here, and init has taken another one then.
	l.edit(regexp.MustCompile(`(?m)^listen = .*$`).FindString(string(text)), `listen = "`+addr+`"`)
	var height atomic.Int64
	node := newBusyNode(t, l.socket("one"), "one", &height)
	l.start()
	node.signsOn()

	status := func() (s monitor.Snapshot) {
		t.Helper()
		out, err := exec.Command("privyseal", "status", "--home", l.home, "--json").Output()
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		if err != nil || len(s.Chains) != 1 || len(s.Chains[0].Devices) != 2 {
			t.Fatalf("%v: %s", err, out)
		}
		if strings.Contains(string(out), "secret word") {
			t.Errorf("a password is shown: %s", out)
		}
		return s
	}
	scrape := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	up := func(d *yubihsmtest.Device) string {
		_, text := scrape("/metrics")
		_, value, _ := strings.Cut(text, `privyseal_device_up{chain_id="one",device="`+d.URL()+`"} `)
		return value[:1]
	}

	if s := status(); !s.Ready || s.Chains[0].Devices[0].Signatures == 0 || s.Chains[0].Devices[0].Name != "YubiHSM 0012345678, firmware 2.4.0" || s.Chains[0].Devices[1].Signatures != 0 {
		t.Errorf("%+v", s)
	}
	devices[0].Always(yubihsmtest.SignEdDSA, devices[0].Hang())
	eventually(t, "the hung device is known", func() bool { return status().Chains[0].Devices[0].Failed != "" })
	if s := status(); !s.Ready || s.Chains[0].Devices[1].Failed != "" {
		t.Errorf("%+v", s)
	}
	node.signsOn()
	if up(devices[0]) != "0" || up(devices[1]) != "1" {
		t.Error("the metrics have another device down")
	}

	devices[1].StopConnector()
	eventually(t, "both are known to have failed", func() bool { return !status().Ready })
	if code, text := scrape("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "one no device signs\n") {
		t.Errorf("%d: %s", code, text)
	}
	out, err := exec.Command("privyseal", "status", "--home", l.home, "--ready").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "one: device "+devices[1].URL()+" failed: ") || !strings.Contains(string(out), "connection refused") {
		t.Errorf("%v: %s", err, out)
	}
	page, err := exec.Command("privyseal", "status", "--home", l.home).Output()
	if err != nil || !strings.Contains(string(page), "not ready") || strings.Count(string(page), "device  ") != 2 || !strings.Contains(string(page), "failed for ") {
		t.Errorf("%v: %s", err, page)
	}

	devices[0].Heal()
	eventually(t, "one is back", func() bool { s := status(); return s.Ready && s.Chains[0].Devices[0].Failed == "" })
	node.signsOn()
	l.stop()
}
