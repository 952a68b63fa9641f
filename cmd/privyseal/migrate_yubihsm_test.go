package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

// oldHSM is a home of tmkms on a device, which both were stopped an hour ago.
type oldHSM struct {
	*liveHome
	*yubihsmtest.Device
	old    string
	before []yubihsmtest.Object
}

// newOldHSM has a device as tmkms' setup leaves it, with the keys of the installation.
func newOldHSM(t *testing.T) *oldHSM {
	t.Helper()
	h := &oldHSM{liveHome: newLiveHome(t), Device: yubihsmtest.New(t, yubihsmtest.Options{})}
	t.Setenv("PRIVYSEAL_RUN", filepath.Join(h.dir, "run")) // another test has the same keys
	const validator = yubihsmtest.CanSignECDSA | yubihsmtest.CanSignEdDSA | yubihsmtest.CanGetLog | yubihsmtest.CanAttest
	const wrap = yubihsmtest.CanExportWrapped | yubihsmtest.CanImportWrapped | yubihsmtest.CanWrapData | yubihsmtest.CanUnwrapData
	h.Remove(yubihsmtest.AuthenticationKey, 1)
	h.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 4, Algorithm: yubihsmtest.AES128Auth, Domains: 1, Capabilities: validator},
		[]byte("kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk"))
	h.Provision(t, yubihsmtest.Object{Type: yubihsmtest.WrapKey, ID: 1, Algorithm: yubihsmtest.AES256CCM, Capabilities: wrap, Delegated: 1<<64 - 1}, bytes.Repeat([]byte{7}, 32))
	for id, algorithm := range map[uint16]byte{1: yubihsmtest.Ed25519, 2: yubihsmtest.Ed25519, 259: yubihsmtest.K256} {
		h.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: id, Algorithm: algorithm, Domains: 1,
			Capabilities: yubihsmtest.CanSignECDSA | yubihsmtest.CanSignEdDSA}, bytes.Repeat([]byte{byte(id)}, 32))
	}
	h.before = h.Objects()
	root := filepath.Join(h.dir, "old")
	if err := copyOld(root); err != nil {
		t.Fatal(err)
	}
	h.old = filepath.Join(root, "tmkms-yubihsm")
	h.change(`type = "usb"`, `type = "http", addr = "`+strings.Replace(h.URL(), "http://", "tcp://", 1)+`"`,
		"tcp://10.0.0.2:26658", "unix://"+h.socket("cosmoshub-4"), "unix:///run/osmosis/privval.sock", "unix://"+h.socket("osmosis-1"),
		"tcp://127.0.0.1:26659", "unix://"+h.socket("sdk-secp-1"), "unix:///run/testnet/privval.sock", "unix://"+h.socket("testnet-1"))
	return h
}

// change replaces texts in tmkms.toml, by pairs.
func (h *oldHSM) change(pairs ...string) {
	h.t.Helper()
	path := filepath.Join(h.old, "tmkms.toml")
	text, err := os.ReadFile(path)
	for i := 0; i < len(pairs) && err == nil; i += 2 {
		if !bytes.Contains(text, []byte(pairs[i])) {
			h.t.Fatalf("%s has no %q", path, pairs[i])
		}
		text = bytes.Replace(text, []byte(pairs[i]), []byte(pairs[i+1]), 1)
	}
	if err = errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

// migrate runs `privyseal migrate tmkms`, whose output never shows the password, and which
// leaves the device alone.
func (h *oldHSM) migrate(args ...string) (string, error) {
	h.t.Helper()
	out, err := exec.Command("privyseal", append([]string{"migrate", "tmkms", h.old, "--home", h.home}, args...)...).CombinedOutput()
	if strings.Contains(string(out), "1k02vtx") {
		h.t.Errorf("it prints the password:\n%s", out)
	}
	if after := h.Objects(); len(after) != len(h.before) {
		h.t.Errorf("the device had %v, and has %v", h.before, after)
	}
	if n := h.Count(yubihsmtest.SignEdDSA) + h.Count(yubihsmtest.SignECDSA); n != 0 {
		h.t.Errorf("the device has signed %d times", n)
	}
	return string(out), err
}

// asks returns what a node of a chain is answered.
func (h *oldHSM) asks(chainID string, heights ...string) (answers []string) {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	defer stop()
	var out syncBuffer
	cmd := exec.CommandContext(ctx, "node", append([]string{h.socket(chainID), chainID}, heights...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	eventually(h.t, chainID+" is answered", func() bool { return strings.Count(out.String(), "\n") > len(heights) })
	stop()
	cmd.Wait() // it was killed
	return strings.Split(strings.TrimSpace(out.String()), "\n")[1:]
}

// TestMigrateYubiHSM: an operator of tmkms on a YubiHSM moves over, with three chains on
// the device and one in a file.
func TestMigrateYubiHSM(t *testing.T) {
	h := newOldHSM(t)
	out, err := h.migrate("--dry-run")
	for _, want := range []string{
		"chain cosmoshub-4\n  key    keys/cosmoshub-4.yubihsm, ed25519 ", ", from the key 0x0001 of the YubiHSM at " + h.URL(),
		"chain sdk-secp-1\n  key    keys/sdk-secp-1.yubihsm, secp256k1 ", "chain testnet-1\n  key    keys/testnet-1.key, ed25519 ",
		":\ntable [yubihsm.main]\n  device = [\"" + h.URL() + "\"]", "\n  auth_key = 4", "\n  password_file = \"keys/main.password\"", "\nfile keys/main.password\nchain cosmoshub-4\n",
		"note: the password of the YubiHSM is still in ", "note: connector_server is not taken over", "\nnothing was written\n",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("it does not say %q: %v\n%s", want, err, out)
		}
	}
	if n := strings.Count(out, "[yubihsm.main]"); n != 1 {
		t.Errorf("it shows the table %d times:\n%s", n, out)
	}
	if _, err := os.Lstat(h.home); err == nil {
		t.Fatal("a dry run has made the home folder")
	}
	if out, err = h.migrate("--yes", "--yubihsm", "main"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(h.home, "keys", "main.password")
	password, err := os.ReadFile(path)
	info, err2 := os.Stat(path)
	if err != nil || err2 != nil || string(password) != "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk\n" || info.Mode() != 0o600 {
		t.Errorf("%s: %v, %v, mode %v", path, err, err2, info)
	}
	h.keepsNoOtherCopy()

	noMetrics(t, h.home)
	h.start()
	for chainID, heights := range map[string][]string{"cosmoshub-4": {"23456789", "23456790"}, "osmosis-1": {"1234", "1235"}, "sdk-secp-1": {"77", "78"}, "testnet-1": {"9", "10"}} {
		// A proposal of height 77 was signed, so a prevote there may be.
		answers := h.asks(chainID, heights...)
		if chainID != "sdk-secp-1" && strings.HasSuffix(answers[0], ": signed") || !strings.HasSuffix(answers[1], ": signed") {
			t.Errorf("%s: %q\n%s", chainID, answers, h.log)
		}
	}
	if a, b := h.Count(yubihsmtest.SignEdDSA), h.Count(yubihsmtest.SignECDSA); a != 2 || b != 2 {
		t.Errorf("the device has made %d and %d signatures, not 2 and 2", a, b)
	}
	if out, err := h.migrate2(); err == nil || !strings.Contains(out, "is in "+h.home+"/privyseal.toml already") {
		t.Errorf("a second time: %v\n%s", err, out)
	}
	h.stop()
}

// What is refused because of several chains, of an identity, of a state, or of the device:
// one message, and nothing is written.
func TestMigrateYubiHSMRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *oldHSM)
		want  string
	}{
		"no connector":     {func(h *oldHSM) { h.StopConnector() }, "cannot use the YubiHSM at "},
		"no such key":      {func(h *oldHSM) { h.Remove(yubihsmtest.AsymmetricKey, 2); h.before = h.Objects() }, "has no asymmetric key 0x0002"},
		"another password": {func(h *oldHSM) { h.change("1k02vtxh4", "1k02vtxh5") }, "tmkms.toml is not the one of authentication key 0x0004"},
		"no password file": {func(h *oldHSM) {
			h.change(`password = "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk"`, `password_file = "pw"`)
		}, "cannot read the password file "},
		"a chain that is lost": {func(h *oldHSM) { os.Remove(filepath.Join(h.old, "state/osmosis-1-consensus.json")) }, "the state of chain osmosis-1, "},
		"a newer state beside": {func(h *oldHSM) {
			h.file("osmosis-1_priv_validator_state.json", `{"height":"9999","round":"0","step":2,"block_id":null}`)
		}, "osmosis-1_priv_validator_state.json"},
		"the key is the identity": {func(h *oldHSM) {
			seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(h.file("secrets/kms-identity.key", "")))
			if err != nil {
				t.Fatal(err)
			}
			h.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 1, Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA}, seed)
			h.change("unix://"+h.socket("cosmoshub-4"), "tcp://127.0.0.1:26658")
		}, "kms-identity.key, is the validator key itself, which must sign no handshakes"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newOldHSM(t)
			c.spoil(h)
			out, err := h.migrate("--yes")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v, and it does not say %q:\n%s", err, c.want, out)
			}
			if n := strings.Count(out, "privyseal: "); n < 1 || n > 2 { // a failure, and its cure
				t.Errorf("it has %d messages:\n%s", n, out)
			}
			if _, err := os.Lstat(h.home); err == nil {
				t.Errorf("it has made the home folder:\n%s", out)
			}
		})
	}
}

// The commands of doc/operations.md, as typed.
func TestMigrateYubiHSMGuide(t *testing.T) {
	text, err := os.ReadFile("../../doc/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### Take over from tmkms on a YubiHSM\n")
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, _ = strings.Cut(block, "\n```")
	h := newOldHSM(t)
	lines := strings.Split(strings.NewReplacer("/etc/tmkms", h.old, "DIR", h.home).Replace(block), "\n")
	if len(lines) != 3 {
		t.Fatalf("the section has the commands %q", lines)
	}
	if out := runCommand(t, "sh", "-c", lines[0]); !strings.Contains(out, "nothing was written") {
		t.Errorf("%s\n%s", lines[0], out)
	}
	if out, err := exec.Command("sh", "-c", lines[1]).CombinedOutput(); err == nil || !strings.Contains(string(out), "--yes") {
		t.Errorf("without a terminal: %v\n%s", err, out)
	}
	runCommand(t, "sh", "-c", lines[1]+" --yes")
	out, _ := exec.Command("sh", "-c", lines[2]).CombinedOutput() // the old key file is still there
	for _, want := range []string{"signs with key 0x0001", "signs with key 0x0002", "signs with key 0x0103"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s does not say %q:\n%s", lines[2], want, out)
		}
	}
	if strings.Count(string(out), "FAIL") != strings.Count(string(out), "still holds the key in plain text") {
		t.Errorf("%s fails:\n%s", lines[2], out)
	}
}

// A chain whose state is lost is taken by hand, as the message says.
func TestMigrateYubiHSMByHand(t *testing.T) {
	h := newOldHSM(t)
	h.file("state/sdk-secp-1-consensus.json", "\n")
	out, err := h.migrate("--yes")
	command := regexp.MustCompile("`(privyseal init [^`]+)`").FindStringSubmatch(out)
	if err == nil || command == nil {
		t.Fatalf("%v, and it names no command:\n%s", err, out)
	}
	h.file("password", "kms-validator-password-1k02vtxh4ggxct5tngncc33rk9yy5yjhk\n")
	typed := strings.NewReplacer(" ADDR ", " unix://"+h.socket("sdk-secp-1")+" ", " FILE ", " "+filepath.Join(h.old, "password")+" ", "-height H", "-height 500").Replace(command[1])
	runCommand(t, "sh", "-c", typed+" --yes")
	noMetrics(t, h.home)
	h.start()
	if answers := h.asks("sdk-secp-1", "500", "501"); strings.HasSuffix(answers[0], ": signed") || !strings.HasSuffix(answers[1], ": signed") {
		t.Errorf("%q\n%s", answers, h.log)
	}
	h.stop()
}

// file writes a file of the installation, if text is not "", and returns what it holds.
func (h *oldHSM) file(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.old, name)
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// migrate2 is migrate when the device has signed.
func (h *oldHSM) migrate2() (string, error) {
	out, err := exec.Command("privyseal", "migrate", "tmkms", h.old, "--home", h.home, "--yes").CombinedOutput()
	return string(out), err
}

// keepsNoOtherCopy looks for the password in all other files of the home.
func (h *oldHSM) keepsNoOtherCopy() {
	h.t.Helper()
	err := filepath.WalkDir(h.home, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, "main.password") {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("1k02vtx")) {
			h.t.Errorf("%s has the password", path)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}
