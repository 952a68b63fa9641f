package peers_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/setup/setuptest"
	"privyseal/internal/terminal/terminaltest"
	"privyseal/test/e2e/rig"
	"privyseal/yubihsm"
)

// TestTMKMSOnOurYubiHSM: privyseal sets the simulator up, from new words. On it tmkms makes,
// backs up and restores keys, and signs a real chain; then privyseal signs on in its place.
func TestTMKMSOnOurYubiHSM(t *testing.T) {
	h := newHSM(t, "peers-our-yubihsm")
	tty := terminaltest.New(t)
	cmd := exec.CommandContext(h.n.ctx, program, "yubihsm", "setup", "--device", h.URL(), "--password-dir", h.in("passwords"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.ExtraFiles = []*os.File{tty.Tty}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	check(t, cmd.Start())
	list := setuptest.Read(t, tty)
	setuptest.Type(t, tty, list)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	h.isSetUp()
	h.words = strings.Join(list, " ")
	w, err := words.Parse([]byte(h.words))
	check(t, err)
	h.wrapKey, err = w.WrapKey(1)
	check(t, err)
	h.operator, h.validatorRole = h.read("passwords/operator-password"), h.read("passwords/validator-password")
	h.authKey, h.password, h.filed = 2, h.operator, true
	h.derivesTheSame()
	h.handleKeys()
	h.signs()
}

// in returns where a file of the home is, read what is in it.
func (h *hsm) in(name string) string { return filepath.Join(h.home, name) }

func (h *hsm) read(name string) string {
	h.n.t.Helper()
	text, err := os.ReadFile(h.in(name))
	check(h.n.t, err)
	return strings.TrimSpace(string(text))
}

// derivesTheSame has tmkms print what it makes of our words.
func (h *hsm) derivesTheSame() {
	t := h.n.t
	out := h.run(h.words+"\n", "yubihsm", "setup", "-c", "tmkms.toml", "--restore", "--print-only")
	for _, password := range []string{h.operator, h.validatorRole, h.read("passwords/auditor-password")} {
		if !strings.Contains(out, password) {
			t.Errorf("tmkms does not derive %s:\n%s", password, out)
		}
	}
}

// setUpAnother has privyseal find the set-up of tmkms, and make the same of another device
// from the same words. Yubico's program shows both.
func (h *hsm) setUpAnother() {
	t := h.n.t
	check(t, os.WriteFile(h.in("words"), []byte(h.words), 0o600))
	setup := func(d *yubihsmtest.Device) string {
		t.Helper()
		out, err := rig.Output(h.n.ctx, program, "yubihsm", "setup", "--device", d.URL(), "--restore", "--words-file", h.in("words"), "--password-dir", h.in("passwords"))
		check(t, err)
		return string(out)
	}
	before := h.shown(h.Device)
	for _, want := range []string{"label: \"admin:2", "label: \"validator:2", "label: \"primary:2", "label: \"yubihsm.rs setup report\""} {
		if !strings.Contains(before, want) {
			t.Errorf("yubihsm-shell shows no %s:\n%s", want, before)
		}
	}
	if out := setup(h.Device); !strings.Contains(out, " is set up with these words\n") || h.shown(h.Device) != before {
		t.Errorf("privyseal makes of the set-up of tmkms\n%s\n%s", out, h.shown(h.Device))
	}
	h.other = yubihsmtest.New(t, yubihsmtest.Options{})
	setup(h.other)
	if ours := dated.ReplaceAllString(h.shown(h.other), "DATE"); ours != dated.ReplaceAllString(before, "DATE") {
		t.Errorf("tmkms makes\n%s\nand privyseal\n%s", before, ours)
	}
	if ours, theirs := h.report(h.other), h.report(h.Device); ours != theirs {
		t.Errorf("the report of tmkms has %s, and ours %s", theirs, ours)
	}
	if ours := h.read("passwords/validator-password"); ours != h.validatorRole {
		t.Errorf("the validator's password is %s, and %s with tmkms", ours, h.validatorRole)
	}
}

// dated is what differs between two set-ups: dates in labels, and the length of the report.
var dated = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|(type: opaque, .*length: )\d+`)

// shown is what yubihsm-shell says of each object, as the administrator.
func (h *hsm) shown(d *yubihsmtest.Device) string {
	t := h.n.t
	program := filepath.Join(yubihsmtest.Programs(t, "yubihsm-shell"), "yubihsm-shell")
	var all strings.Builder
	for _, o := range [][]string{{"1", "authentication-key"}, {"2", "authentication-key"}, {"3", "authentication-key"}, {"4", "authentication-key"},
		{"1", "wrap-key"}, {"0xfffe", "opaque"}, nil} {
		args := []string{"-C", d.URL(), "--authkey", "1", "-p", h.words, "-a", "list-objects", "-A", "any", "-t", "any"}
		if o != nil {
			args = []string{"-C", d.URL(), "--authkey", "1", "-p", h.words, "-a", "get-object-info", "-i", o[0], "-t", o[1]}
		}
		out, err := exec.CommandContext(h.n.ctx, program, args...).Output()
		if err != nil {
			t.Fatalf("yubihsm-shell %v: %v\n%s", args[6:], err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// report returns which fields the report of a set-up has, and their types.
func (h *hsm) report(d *yubihsmtest.Device) string {
	t := h.n.t
	device, err := yubihsm.Open(d.URL())
	check(t, err)
	s, err := yubihsm.Authenticate(h.n.ctx, device, 2, yubihsm.DeriveKey([]byte(h.operator)))
	check(t, err)
	text, err := s.Opaque(h.n.ctx, 0xfffe)
	check(t, err)
	check(t, s.Close(h.n.ctx))
	t.Logf("a report: %s", text)
	var fields map[string]any
	check(t, json.Unmarshal(text, &fields))
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b.WriteString(name)
		switch v := fields[name].(type) {
		case float64:
			b.WriteString(": number\n")
		case []any:
			b.WriteString(strings.Repeat(" []", len(v)) + "\n")
		default: // host and user are there or not
			b.WriteString("\n")
		}
	}
	return b.String()
}
