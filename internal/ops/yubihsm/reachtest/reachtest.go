// Package reachtest is the world of tests of the commands of `privyseal yubihsm`: simulated
// devices that are set up as tmkms does it, files with the passwords, and a home folder.
package reachtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// World is a home folder, which is not made yet, beside devices: each with an
// administrator's authentication key 2, whose password is "two", and the signer's 4, whose
// password is "four".
type World struct {
	T       *testing.T
	Dir     string // for files beside the home folder; "two" and "four" are there
	Home    string
	Dev     []*yubihsmtest.Device
	Devices []string // their addresses

	// Command returns what Run runs: `privyseal yubihsm`, or those of its commands that are
	// tested.
	Command func(*provider.House) *cobra.Command
}

const (
	// Signs are the capabilities of the signer's authentication key.
	Signs = yubihsmtest.CanSignEdDSA | yubihsmtest.CanSignECDSA
	// Makes are the capabilities of the administrator's authentication key, and those that
	// it can delegate.
	Makes = Signs | yubihsmtest.CanGenerateAsymmetric | yubihsmtest.CanPutAsymmetric | yubihsmtest.ExportableUnderWrap
)

// Kinds is what a config of the world may have: files with keys, and YubiHSMs.
var Kinds = config.Kinds{{Provider: "soft"}, func() config.Kind { k := reach.Kind(); k.Provider = reach.Table; return k }()}

// New returns a world of n devices with serial numbers that follow each other.
func New(t *testing.T, n int) *World {
	t.Helper()
	w := &World{T: t, Dir: t.TempDir()}
	w.Home = filepath.Join(w.Dir, "home")
	for i := range n {
		d := yubihsmtest.New(t, yubihsmtest.Options{Serial: yubihsmtest.DefaultSerial + uint32(i)})
		admin := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 1, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.All, Delegated: yubihsmtest.All}
		d.Provision(t, admin, []byte("password"))
		d.ProvisionAuth(t, 4, "four", Signs)
		auth := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: Makes, Delegated: Makes}
		d.Provision(t, auth, []byte("two"))
		w.Dev, w.Devices = append(w.Dev, d), append(w.Devices, d.URL())
	}
	w.File("four", "four\n")
	w.File("two", "two")
	return w
}

// Path returns where a file beside the home folder is.
func (w *World) Path(name string) string { return filepath.Join(w.Dir, name) }

// File writes a file with mode 0600 beside the home folder, and returns its path.
func (w *World) File(name, text string) string {
	w.T.Helper()
	if err := os.WriteFile(w.Path(name), []byte(text), 0o600); err != nil {
		w.T.Fatal(err)
	}
	return w.Path(name)
}

// Provision puts a key under an id into all devices, which may sign and may not leave.
func (w *World) Provision(id uint16, algorithm byte, fill byte) {
	w.T.Helper()
	for _, d := range w.Dev {
		d.Provision(w.T, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: id, Algorithm: algorithm, Capabilities: Signs}, bytes.Repeat([]byte{fill}, 32))
	}
}

// KeyFile returns the path of a new key file, and the key.
func (w *World) KeyFile(name string, t pubkey.Type) (string, *soft.Key) {
	w.T.Helper()
	secret, err := soft.Generate(t)
	if err == nil {
		err = keyfile.Create(w.Path(name), secret)
	}
	if err != nil {
		w.T.Fatal(err)
	}
	return w.Path(name), secret
}

// Install makes the home folder: [yubihsm.main] with all devices and the signer's
// authentication key, and chain-1, whose key is the Ed25519 key under an id on the first
// device.
func (w *World) Install(id uint16) {
	w.T.Helper()
	public, err := pubkey.New(pubkey.Ed25519, w.Dev[0].Public(w.T, id))
	if err == nil {
		err = os.MkdirAll(filepath.Join(w.Home, "keys"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(w.Home, "keys/chain-1.yubihsm"), yubihsm.Reference{ID: id, Public: public}.Encode(), 0o600)
	}
	if err == nil {
		text := fmt.Sprintf("[[chain]]\nid = \"chain-1\"\nprovider = \"yubihsm\"\nyubihsm = \"main\"\nkey = \"keys/chain-1.yubihsm\"\nstate = \"state/chain-1.mark\"\nnode = [ { addr = \"unix:///run/node/privval.sock\" } ]\n"+
			"[yubihsm.main]\ndevice = [\"%s\"]\nauth_key = 4\npassword_file = %q\n", strings.Join(w.Devices, `", "`), w.Path("four"))
		err = os.WriteFile(filepath.Join(w.Home, config.FileName), []byte(text), 0o600)
	}
	if err != nil {
		w.T.Fatal(err)
	}
}

// Config returns the config of the home folder.
func (w *World) Config() *config.Config {
	w.T.Helper()
	c, err := Kinds.Load(filepath.Join(w.Home, config.FileName))
	if err != nil {
		w.T.Fatal(err)
	}
	return c
}

// AsSigner are the flags that name all devices and the signer's authentication key.
func (w *World) AsSigner(more ...string) []string { return w.as("4", "four", more) }

// AsAdministrator are the flags that name all devices and the administrator's
// authentication key.
func (w *World) AsAdministrator(more ...string) []string { return w.as("2", "two", more) }

func (w *World) as(id, file string, more []string) []string {
	args := []string{"--auth-key", id, "--password-file", w.Path(file)}
	for _, device := range w.Devices {
		args = append(args, "--device", device)
	}
	return append(args, more...)
}

// House is what commands are given.
func (w *World) House() *provider.House {
	return &provider.House{App: &cli.App{HomeFlag: w.Home, Kinds: Kinds}}
}

// Run runs a command of Command, whose name is among args, and returns what it prints.
func (w *World) Run(args ...string) (string, error) {
	cmd := w.Command(w.House())
	root := &cobra.Command{Use: "privyseal", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cmd)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{cmd.Name()}, args...))
	err := root.ExecuteContext(w.T.Context())
	return out.String(), err
}

// Must is Run that has to succeed, and print want.
func (w *World) Must(want string, args ...string) {
	w.T.Helper()
	if out, err := w.Run(args...); err != nil || !strings.Contains(out, want) {
		w.T.Fatalf("%v, want %q:\n%s", err, want, out)
	}
}

// Refuses is Run that has to fail with want, which may be "what failed -> the next
// command", to print nothing, and to change no object of a device.
func (w *World) Refuses(want string, args ...string) {
	w.T.Helper()
	before := w.Objects()
	out, err := w.Run(args...)
	if err == nil || out != "" {
		w.T.Errorf("%v: %v\n%s", args, err, out)
		return
	}
	if what, next := cure.Split(err.Error()); !strings.Contains(what+" -> "+next, want) {
		w.T.Errorf("%v: %s -> %s\nwant %s", args, what, next, want)
	}
	w.Untouched(before)
}

// Untouched fails the test if the devices have other objects than at first.
func (w *World) Untouched(before string) {
	w.T.Helper()
	if after := w.Objects(); after != before {
		w.T.Errorf("the devices had %s, and have %s", before, after)
	}
}

// Objects returns what is on the devices, with the public keys.
func (w *World) Objects() string {
	var b strings.Builder
	for _, d := range w.Dev {
		for _, o := range d.Objects() {
			fmt.Fprintf(&b, "%d/%d ", o.Type, o.ID)
			if o.Type == yubihsmtest.AsymmetricKey {
				fmt.Fprintf(&b, "%x ", d.Public(w.T, o.ID))
			}
		}
	}
	return b.String()
}
