package yubihsm

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/migrate"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
)

// taking is a takeover from a signer that uses key 1 as authentication key 4.
type taking struct {
	w    *world
	in   *home.Installer
	f    *Taker
	old  migrate.Device
	key  migrate.DeviceKey
	have *home.Chain
}

func newTaking(t *testing.T, args ...string) *taking {
	t.Helper()
	w := newWorld(t, 1)
	w.Provision(1, yubihsmtest.Ed25519, 1)
	w.Provision(2, yubihsmtest.K256, 2)
	k := &taking{w: w, old: migrate.Device{Address: w.Devices[0], AuthKey: 4, PasswordFile: w.Path("four")}}
	k.key = migrate.DeviceKey{Device: &k.old, ID: 1, Type: pubkey.Ed25519}
	k.begin(args...)
	return k
}

// begin is a new command.
func (k *taking) begin(args ...string) {
	k.w.T.Helper()
	k.f = &Taker{}
	cmd := &cobra.Command{}
	k.f.Add(cmd)
	var err error
	if k.in, err = home.NewInstaller(k.w.house()); err == nil {
		err = cmd.ParseFlags(args)
	}
	if err != nil {
		k.w.T.Fatal(err)
	}
}

// take takes the key for a chain, and returns the words of init, or the error.
func (k *taking) take(chainID string) string {
	k.have = &home.Chain{Chain: config.NewChain(chainID, "")}
	words, err := k.f.TakeKey(k.w.T.Context(), k.in, migrate.Chain{ID: chainID, Device: &k.key}, k.have)
	if err != nil {
		return err.Error()
	}
	return strings.Join(words, " ")
}

// install makes the chain that was taken.
func (k *taking) install() {
	k.w.T.Helper()
	k.have.Nodes = []config.Node{{Name: "node1", Addr: "unix:///run/node/privval.sock"}}
	if err := k.in.Install(k.have); err != nil {
		k.w.T.Fatal(err)
	}
}

// A device is named by a new table, and keys of one device by the same; what takes the key
// by hand works as it is printed.
func TestTakeKey(t *testing.T) {
	k := newTaking(t)
	before := k.w.Objects()
	if k.f.Takes(migrate.Chain{KeyFile: "x"}) || !k.f.Takes(migrate.Chain{Device: &k.key}) {
		t.Error("it takes the key of a file, or none of a device")
	}
	const flags = "--provider yubihsm --yubihsm-take --yubihsm-key-id 0x0001 --yubihsm-device "
	if want, got := flags+k.w.Devices[0]+" --yubihsm-auth-key 4 --yubihsm-password-file "+k.w.Path("four"), k.take("a"); got != want {
		t.Fatalf("TakeKey = %s\nwant %s", got, want)
	}
	if _, err := os.Lstat(k.w.Home); err == nil {
		t.Error("it has made something before all was judged")
	}
	k.install()
	k.begin()
	k.key.ID, k.key.Type = 2, pubkey.Secp256k1
	if got, want := k.take("b"), "--provider yubihsm --yubihsm-take --yubihsm-key-id 0x0002"; got != want {
		t.Fatalf("TakeKey = %s\nwant %s", got, want)
	}
	k.install()
	c := k.w.Config()
	if set, ok := c.Tables[reach.Table]["main"].(*reach.Set); len(c.Tables[reach.Table]) != 1 || !ok || set.PasswordFile != k.w.Path("four") {
		t.Errorf("the tables are %v", c.Tables[reach.Table])
	}
	for _, ch := range c.Chains {
		r, err := (&Holder{}).Public(c, ch)
		if err != nil || ch.Table != "main" || ch.ID == "a" && r.Type() != pubkey.Ed25519 || ch.ID == "b" && r.Type() != pubkey.Secp256k1 {
			t.Errorf("%s: %v, %v", ch.ID, r, err)
		}
	}
	k.w.Untouched(before)
	if n := k.w.Dev[0].Count(yubihsmtest.SignEdDSA) + k.w.Dev[0].Count(yubihsmtest.SignECDSA); n != 0 {
		t.Errorf("the device has signed %d times", n)
	}
}

// A password that the old config holds goes into a file of ours, once. What an interrupted
// command left there is as good.
func TestTakePassword(t *testing.T) {
	k := newTaking(t, "--yubihsm", "hsm1")
	k.old.Password, k.old.PasswordFile = secret.New("four"), "tmkms.toml"
	if got := k.take("a"); !strings.HasSuffix(got, " --yubihsm hsm1 --yubihsm-device "+k.w.Devices[0]+" --yubihsm-auth-key 4 --yubihsm-password-file FILE") {
		t.Fatalf("TakeKey = %s", got)
	}
	if err := k.have.Make(); err != nil {
		t.Fatal(err)
	}
	path := k.in.Abs("keys/hsm1.password")
	info, err := os.Stat(path)
	text, err2 := os.ReadFile(path)
	if err != nil || err2 != nil || info.Mode() != 0o600 || string(text) != "four\n" {
		t.Errorf("%v, %v, mode %v, %q", err, err2, info.Mode(), text)
	}
	first := k.have
	if got := k.take("b"); !strings.HasPrefix(got, "--provider") || k.have.Make != nil || first.Tables[reach.Table]["hsm1"] != k.have.Tables[reach.Table]["hsm1"] {
		t.Errorf("a second chain makes %v, tables %v: %s", k.have.Make != nil, k.have.Tables, got)
	}
	k.begin("--yubihsm", "hsm1")
	if got := k.take("a"); !strings.HasPrefix(got, "--provider") || k.have.Make != nil {
		t.Errorf("beside a file with this password: %s", got)
	}
	if err := os.WriteFile(path, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.begin("--yubihsm", "hsm1")
	if got := k.take("a"); got != path+" is there already, with another password" {
		t.Errorf("beside a file with another password: %s", got)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	k.begin("--yubihsm", "hsm1")
	if got := k.take("a"); !strings.Contains(got, "0644") {
		t.Errorf("beside a file that others may read: %s", got)
	}
}

// What is refused, with nothing made.
func TestTakeRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(k *taking)
		want  string
	}{
		"no password file":   {func(k *taking) { os.Remove(k.w.Path("four")) }, "cannot read the password file DIR/four: no such file"},
		"a loose file":       {func(k *taking) { os.Chmod(k.w.Path("four"), 0o644) }, "chmod 600 DIR/four"},
		"white space":        {func(k *taking) { k.w.File("four", "four \n") }, "the password in DIR/four ends in white space, which the old signer leaves out; remove it from the file"},
		"two lines":          {func(k *taking) { k.old.Password = secret.New("four\nfour") }, "does not hold a password, which is one line"},
		"another password":   {func(k *taking) { k.old.Password, k.old.PasswordFile = secret.New("five"), "tmkms.toml" }, "the password in tmkms.toml is not the one of authentication key 0x0004 of the YubiHSM at URL"},
		"no such role":       {func(k *taking) { k.old.AuthKey = 9 }, "the YubiHSM at URL has no authentication key 0x0009"},
		"no device":          {func(k *taking) { k.w.Dev[0].Unplug() }, "cannot use the YubiHSM at URL: "},
		"no connector":       {func(k *taking) { k.w.Dev[0].StopConnector() }, "cannot use the YubiHSM at URL: "},
		"no such key":        {func(k *taking) { k.key.ID = 77 }, "there is no key to take: the YubiHSM at URL has no asymmetric key 0x004d in a domain of authentication key 0x0004"},
		"a key of secp256k1": {func(k *taking) { k.key.ID = 2 }, "the key 0x0002 of the YubiHSM at URL is of type secp256k1, and the old signer uses it as ed25519 for chain a"},
		"a key of P-256":     {func(k *taking) { k.w.Provision(1, yubihsmtest.P256, 1) }, "no chain signs with that"},
		"no right to sign":   {func(k *taking) { k.w.Dev[0].ProvisionAuth(t, 4, "four", yubihsmtest.CanSignECDSA) }, "may not sign with ed25519 keys: it lacks the capability sign-eddsa"},
		"no name":            {func(k *taking) { k.begin("--yubihsm", "a/b") }, `--yubihsm "a/b" is not a name: `},
		"no address":         {func(k *taking) { k.old.Address = "http://" }, "the old signer's device is wrong: "},
		"another set": {func(k *taking) {
			k.take("b")
			k.install()
			k.begin()
			k.old.AuthKey, k.old.PasswordFile = 2, k.w.Path("two")
		}, "[yubihsm.main] in HOME/privyseal.toml has not the device URL with authentication key 2; give what the old signer has another name, --yubihsm NAME"},
		"another device": {func(k *taking) { k.take("b"); k.install(); k.begin(); k.old.Address = "http://127.0.0.1:1" }, "[yubihsm.main] in HOME/privyseal.toml has not the device http://127.0.0.1:1 with"},
	} {
		k := newTaking(t)
		c.spoil(k)
		before, _ := os.ReadDir(k.w.Home)
		got := strings.NewReplacer(k.w.Home, "HOME", k.w.Dir, "DIR", k.w.Devices[0], "URL").Replace(k.take("a"))
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: TakeKey = %s\nwant %s", name, got, c.want)
		}
		if after, _ := os.ReadDir(k.w.Home); len(after) != len(before) {
			t.Errorf("%s: it has made %v", name, after)
		}
	}
}

// --yubihsm says nothing where no device has the key.
func TestTakerIdle(t *testing.T) {
	k := newTaking(t)
	if err := k.f.Idle(); err != nil {
		t.Errorf("without the flag: %v", err)
	}
	k.begin("--yubihsm", "main")
	if err := k.f.Idle(); err == nil || !strings.Contains(err.Error(), "--yubihsm is for a key that a YubiHSM holds") {
		t.Errorf("with the flag: %v", err)
	}
}
