package peers_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/backup"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/tools"
	"privyseal/yubihsm"
)

// hsm is a home of tmkms whose keys are in a simulated YubiHSM.
type hsm struct {
	*yubihsmtest.Device
	n             *network
	tmkms, home   string
	authKey       int
	password      string
	operator      string              // the password of role 2
	validatorRole string              // the password of role 4
	filed         bool                // the passwords are in files of ours
	words         string              // the password of role 1
	wrapKey       []byte              // as the 24 words give it to us
	other         *yubihsmtest.Device // that we have set up from the same words, nil for none
}

// TestTMKMSOnAYubiHSM: tmkms sets the simulator up, makes, backs up and restores keys in
// it, and signs a real chain with one; then privyseal signs on in its place. The same words
// make the same device of another one.
func TestTMKMSOnAYubiHSM(t *testing.T) {
	h := newHSM(t, "peers-yubihsm")
	h.setUp()
	h.setUpAnother()
	h.handleKeys()
	h.signs()
}

// newHSM returns a device of the factory, and a home of tmkms for a chain.
func newHSM(t *testing.T, id string) *hsm {
	tmkms, err := tools.Program("tmkms-v0.15.0-yubihsm", "scripts/setup peers")
	check(t, err)
	n := newNetwork(t, id, "v0.38.26", 0)
	h := &hsm{Device: yubihsmtest.New(t, yubihsmtest.Options{RealTime: true, SignTime: 105 * time.Millisecond}), n: n,
		tmkms: tmkms, home: filepath.Join(n.dir, "tmkms"), authKey: 1, password: "password"}
	for _, dir := range []string{"secrets", "state"} {
		check(t, os.MkdirAll(filepath.Join(h.home, dir), 0o700))
	}
	h.run("", "softsign", "keygen", "-t", "consensus", "secrets/identity.key")
	return h
}

// run runs a command of tmkms that types into it what it asks for.
func (h *hsm) run(typed string, args ...string) string {
	h.n.t.Helper()
	h.configure()
	cmd := exec.CommandContext(h.n.ctx, h.tmkms, args...)
	cmd.Dir, cmd.Stdin = h.home, strings.NewReader(typed)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.n.t.Fatalf("tmkms %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// configure writes tmkms.toml, with the role that is used now.
func (h *hsm) configure() {
	check(h.n.t, os.WriteFile(filepath.Join(h.home, "tmkms.toml"), fmt.Appendf(nil, `[[chain]]
id = %[1]q
key_format = { type = "hex" }
state_file = "state/consensus.json"

[[validator]]
chain_id = %[1]q
addr = %[2]q
secret_key = "secrets/identity.key"
protocol_version = "v0.38"

[[providers.yubihsm]]
adapter = { type = "http", addr = %[3]q }
auth = { key = %[4]d, %[5]s }
keys = [{ chain_ids = [%[1]q], key = 1, type = "consensus" }]
`, h.n.id, h.n.privval[0], "tcp://"+strings.TrimPrefix(h.URL(), "http://"), h.authKey, h.auth()), 0o600))
}

// auth is how tmkms.toml has the password of the role.
func (h *hsm) auth() string {
	if role := map[int]string{2: "operator", 4: "validator"}[h.authKey]; h.filed && role != "" {
		return fmt.Sprintf("password_file = %q", "passwords/"+role+"-password")
	}
	return fmt.Sprintf("password = %q", h.password)
}

// twelve is a line with half of the words.
var twelve = regexp.MustCompile(`(?m)^ +((?:[a-z]+ ){11}[a-z]+)$`)

var rolePassword = regexp.MustCompile(`authkey 0x000([24]) \[\w+\]: +(\S+)`)

// setUp has tmkms erase the device and give it its roles.
func (h *hsm) setUp() {
	t := h.n.t
	out := h.run("y\n", "yubihsm", "setup", "-c", "tmkms.toml", "-w", "report.json")
	passwords := rolePassword.FindAllStringSubmatch(out, -1)
	if len(passwords) != 2 {
		t.Fatalf("it names %d passwords:\n%s", len(passwords), out)
	}
	h.operator, h.validatorRole = passwords[0][2], passwords[1][2]
	h.derive(out)
	h.isSetUp()
	h.authKey, h.password = 2, h.operator
}

// isSetUp compares the device with what tmkms makes of one.
func (h *hsm) isSetUp() {
	t := h.n.t
	var got strings.Builder
	for _, o := range h.Objects() {
		label, _, _ := strings.Cut(o.Label, ":")
		label, _, _ = strings.Cut(label, " ")
		fmt.Fprintf(&got, "%d %04x %016x %016x %04x %s\n", o.Type, o.ID, uint64(o.Capabilities), uint64(o.Delegated), o.Domains, label)
	}
	want, err := os.ReadFile("testdata/tmkms-setup.txt")
	check(t, err)
	if _, table, _ := strings.Cut(string(want), "\n\n"); got.String() != table {
		t.Errorf("after the set-up there is\n%s\nwant\n%s", got.String(), table)
	}
}

// derive has us make of the 24 words what tmkms made of them.
func (h *hsm) derive(out string) {
	t := h.n.t
	halves := twelve.FindAllStringSubmatch(out, -1)
	if len(halves) != 2 {
		t.Fatalf("it shows %d lines of words:\n%s", len(halves), out)
	}
	h.words = halves[0][1] + " " + halves[1][1]
	w, err := words.Parse([]byte(h.words))
	check(t, err)
	for role, want := range map[string]string{"operator": h.operator, "validator": h.validatorRole} {
		got, err := w.Password(role)
		check(t, err)
		if string(got) != want {
			t.Errorf("the password of %s is %s, not %s", role, got, want)
		}
	}
	h.wrapKey, err = w.WrapKey(1)
	check(t, err)
	if !strings.Contains(out, fmt.Sprintf("%x", h.wrapKey)) {
		t.Errorf("wrap key 1 is not %x:\n%s", h.wrapKey, out)
	}
	admin, err := w.Text()
	check(t, err)
	device, err := yubihsm.Open(h.URL())
	check(t, err)
	s, err := yubihsm.Authenticate(h.n.ctx, device, 1, yubihsm.DeriveKey(admin))
	check(t, err)
	check(t, s.Close(h.n.ctx))
}

// readBackups opens tmkms' backups without the device, and has tmkms import one of ours.
func (h *hsm) readBackups() {
	t := h.n.t
	for name, id := range map[string]uint16{"validator.backup": 1, "backup": 2} {
		text, err := os.ReadFile(filepath.Join(h.home, name))
		check(t, err)
		blob, err := backup.Decode(text)
		check(t, err)
		b, err := backup.Open(h.wrapKey, blob)
		check(t, err)
		if public := h.Public(t, id); b.ID != id || string(b.Key.PublicKey().Bytes()) != string(public) {
			t.Errorf("%s is of key %d, %v, not %x", name, b.ID, b.Key, public)
		}
		b.ID += 0x100
		ours, err := b.Seal(h.wrapKey)
		check(t, err)
		check(t, os.WriteFile(filepath.Join(h.home, "ours"), backup.Encode(ours), 0o600))
		h.run("", "yubihsm", "keys", "import", "-c", "tmkms.toml", "-t", "wrap", "ours")
		if public := h.Public(t, b.ID); string(public) != string(h.Public(t, id)) {
			t.Errorf("tmkms imports our backup as %x", public)
		}
		h.Remove(yubihsmtest.AsymmetricKey, b.ID)
		h.restoreOnAnother(name, id)
	}
}

// restoreOnAnother brings a backup of tmkms onto the device that has only its words from tmkms.
func (h *hsm) restoreOnAnother(name string, id uint16) {
	if h.other == nil {
		return
	}
	t := h.n.t
	_, err := rig.Output(h.n.ctx, program, "yubihsm", "restore", filepath.Join(h.home, name), "--device", h.other.URL(), "--auth-key", "2",
		"--password-file", filepath.Join(h.home, "passwords", "operator-password"))
	check(t, err)
	if public := h.other.Public(t, id); string(public) != string(h.Public(t, id)) {
		t.Errorf("%s comes back as %x", name, public)
	}
}

// restoreOurs has tmkms import what `privyseal yubihsm export` writes, and `privyseal yubihsm
// restore` bring back what tmkms has written.
func (h *hsm) restoreOurs() {
	t := h.n.t
	in := func(name string) string { return filepath.Join(h.home, name) }
	check(t, os.WriteFile(in("operator"), []byte(h.operator), 0o600))
	ours := func(args ...string) {
		t.Helper()
		_, err := rig.Output(h.n.ctx, program, append(args, "--device", h.URL(), "--auth-key", "2", "--password-file", in("operator"))...)
		check(t, err)
	}
	public := h.Public(t, 2)
	h.lists("--device", h.URL(), "--auth-key", "2", "--password-file", in("operator"))
	ours("yubihsm", "export", "--key-id", "2", "--out", in("exported"))
	for name, restore := range map[string]func(){
		"tmkms":     func() { h.run("", "yubihsm", "keys", "import", "-c", "tmkms.toml", "-t", "wrap", "exported") },
		"privyseal": func() { ours("yubihsm", "restore", in("backup")) },
	} {
		h.Remove(yubihsmtest.AsymmetricKey, 2)
		restore()
		if again := h.Public(t, 2); string(again) != string(public) {
			t.Errorf("%s restores the key %x as %x", name, public, again)
		}
	}
}

// makeAlike has us make and import keys as tmkms has done it, but for where they are from: the
// objects are the same.
func (h *hsm) makeAlike() {
	t := h.n.t
	operator := filepath.Join(h.home, "operator")
	check(t, os.WriteFile(operator, []byte(h.operator), 0o600))
	ours := func(args ...string) {
		t.Helper()
		_, err := rig.Output(h.n.ctx, program, append(args, "--device", h.URL(), "--auth-key", "2", "--password-file", operator)...)
		check(t, err)
	}
	root, middle := h.Root()
	for name, c := range map[string]*x509.Certificate{"root.pem": root, "sub-ca.pem": middle} {
		check(t, os.WriteFile(filepath.Join(h.home, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
	}
	h.run("", "yubihsm", "keys", "generate", "-c", "tmkms.toml", "-l", "account", "-t", "account", "--non-exportable", "3")
	ours("yubihsm", "generate", "--key-id", "0x102", "--label", "spare", "--exportable", "--root", filepath.Join(h.home, "root.pem"), "--sub-ca", filepath.Join(h.home, "sub-ca.pem"),
		"--out", filepath.Join(h.home, "attestation"))
	ours("yubihsm", "generate", "--key-id", "0x103", "--label", "account", "--key-type", "secp256k1", "--no-attestation")
	ours("yubihsm", "import", h.n.keyFile(), "--key-id", "0x101", "--label", "validator", "--exportable")
	of := map[uint16]yubihsmtest.Object{}
	for _, o := range h.Objects() {
		if o.Type == yubihsmtest.AsymmetricKey {
			id := o.ID
			o.ID &= 0xff
			of[id] = o
		}
	}
	if theirs, own := h.Public(t, 1), h.Public(t, 0x101); string(theirs) != string(own) {
		t.Errorf("tmkms imports the key %x, and we %x", theirs, own)
	}
	for id := uint16(1); id <= 3; id++ {
		if theirs, own := of[id], of[0x100+id]; theirs != own {
			t.Errorf("tmkms makes %+v, and we make %+v", theirs, own)
		}
		h.Remove(yubihsmtest.AsymmetricKey, 0x100+id)
	}
	h.Remove(yubihsmtest.AsymmetricKey, 3)
}

// handleKeys imports the node's key, makes another one, and restores it from its backup.
func (h *hsm) handleKeys() {
	t := h.n.t
	h.run("", "yubihsm", "keys", "import", "-c", "tmkms.toml", "-t", "json", "-i", "1", "-l", "validator", h.n.keyFile())
	h.run("", "yubihsm", "keys", "generate", "-c", "tmkms.toml", "-l", "spare", "-b", "backup", "2")
	public := h.Public(t, 2)
	h.run("", "yubihsm", "keys", "export", "-c", "tmkms.toml", "-i", "1", "validator.backup")
	h.Remove(yubihsmtest.AsymmetricKey, 2)
	h.run("", "yubihsm", "keys", "import", "-c", "tmkms.toml", "-t", "wrap", "backup")
	if again := h.Public(t, 2); string(again) != string(public) {
		t.Errorf("the restored key is %x, not %x", again, public)
	}
	if out := h.run("", "yubihsm", "keys", "list", "-c", "tmkms.toml"); !strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", public)) {
		t.Errorf("keys list does not name %x:\n%s", public, out)
	}
	h.makeAlike()
	h.readBackups()
	h.restoreOurs()
	h.authKey, h.password = 4, h.validatorRole
	h.configure()
	h.audit("")
	before := h.Count(yubihsmtest.SignEdDSA)
	stop := h.n.startOld("tmkms yubihsm test", h.home, h.tmkms, "yubihsm", "test", "-c", "tmkms.toml", "1")
	for h.Count(yubihsmtest.SignEdDSA) < before+5 {
		check(t, h.n.ctx.Err())
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	h.audit("of key 0x0001, of 128 bytes, made with authentication key 0x0004: entries ")
}

// audit drains the log of the device, which has what tmkms signed as signatures that are not
// ours.
func (h *hsm) audit(want string) {
	t := h.n.t
	h.Audit(false)
	h.ProvisionAuth(t, 9, "nine", yubihsmtest.CanGetLog)
	password := filepath.Join(h.home, "nine")
	check(t, os.WriteFile(password, []byte("nine"), 0o600))
	out, err := exec.CommandContext(h.n.ctx, program, "yubihsm", "audit", "--device", h.URL(), "--auth-key", "9", "--password-file", password,
		"--out", filepath.Join(h.home, "audit"), "--key-id", "1").CombinedOutput()
	if (err != nil) != (want != "") || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %q:\n%s", err, want, out)
	}
	h.Remove(yubihsmtest.AuthenticationKey, 9)
}

// lists has us list what tmkms has made, all that is in a domain of the authentication key,
// and who signs with what.
func (h *hsm) lists(args ...string) {
	t := h.n.t
	t.Helper()
	out, err := rig.Output(h.n.ctx, program, append([]string{"yubihsm", "list", "--json"}, args...)...)
	check(t, err)
	var devices []struct {
		AuthKey uint16 `json:"auth_key"`
		Objects []struct {
			ID      uint16
			Label   string
			Domains []int
			Public  json.RawMessage `json:"public_key"`
			Chains  []string
		}
	}
	check(t, json.Unmarshal([]byte(out), &devices))
	if len(devices) != 1 || len(devices[0].Objects) != len(h.Objects()) {
		t.Fatalf("not all of %+v are in\n%s", h.Objects(), out)
	}
	for _, o := range devices[0].Objects {
		isThere := slices.ContainsFunc(h.Objects(), func(d yubihsmtest.Object) bool {
			return d.ID == o.ID && d.Label == o.Label && bits.OnesCount16(d.Domains) == len(o.Domains)
		})
		if !isThere {
			t.Errorf("there is no %+v among %+v", o, h.Objects())
		}
		if o.Public == nil {
			continue
		}
		key, err := pubkey.ParseJSON(o.Public)
		check(t, err)
		if public := h.Public(t, o.ID); string(key.Bytes()) != string(public) {
			t.Errorf("key %d is %v, not %x", o.ID, key, public)
		}
		if signs := o.ID == 1 && devices[0].AuthKey == 4; signs != slices.Equal(o.Chains, []string{h.n.id}) {
			t.Errorf("authentication key %d: %q sign with key %d", devices[0].AuthKey, o.Chains, o.ID)
		}
	}
}

// signs has tmkms sign the chain, as role 4, and then privyseal, on the same device.
func (h *hsm) signs() {
	stop := h.n.startOld("tmkms", h.home, h.tmkms, "start", "-c", "tmkms.toml")
	h.n.start()
	before := h.Count(yubihsmtest.SignEdDSA)
	height := h.n.signs(10)
	h.n.unpunished(height)
	if n := h.Count(yubihsmtest.SignEdDSA) - before; n < 20 {
		h.n.t.Errorf("the device was asked for %d signatures in 10 blocks", n)
	}
	h.n.refused("a signer still runs", "tmkms", h.home)
	h.n.signs(1)
	stop()
	h.n.takeOver(readPlace(h.n.t, filepath.Join(h.home, "state", "consensus.json"), 0), "tmkms", h.home)
	h.lists("--home", h.n.signer.Home)
}
