package yubihsm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/file"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// world is a home folder beside devices: each with an administrator's authentication key 2
// and the signer's 4, as tmkms sets them up.
type world struct {
	t       *testing.T
	dir     string // for files beside the home folder
	home    string
	dev     []*yubihsmtest.Device
	devices []string
}

const (
	signs = yubihsmtest.CanSignEdDSA | yubihsmtest.CanSignECDSA
	makes = signs | yubihsmtest.CanGenerateAsymmetric | yubihsmtest.CanPutAsymmetric | yubihsmtest.ExportableUnderWrap
)

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.home = filepath.Join(w.dir, "home")
	for i := range n {
		d := yubihsmtest.New(t, yubihsmtest.Options{Serial: yubihsmtest.DefaultSerial + uint32(i)})
		d.ProvisionAuth(t, 4, "four", signs)
		auth := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: makes, Delegated: makes}
		d.Provision(t, auth, []byte("two"))
		w.dev, w.devices = append(w.dev, d), append(w.devices, d.URL())
	}
	w.file("four", "four\n")
	w.file("two", "two")
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) file(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// provision puts a key under an id into all devices.
func (w *world) provision(id uint16, algorithm byte, fill byte) {
	w.t.Helper()
	for _, d := range w.dev {
		d.Provision(w.t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: id, Algorithm: algorithm, Capabilities: signs}, bytes.Repeat([]byte{fill}, 32))
	}
}

// keyFile returns the path of a new key file, and the key.
func (w *world) keyFile(name string, t pubkey.Type) (string, *soft.Key) {
	w.t.Helper()
	secret, err := soft.Generate(t)
	if err == nil {
		err = keyfile.Create(w.path(name), secret)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return w.path(name), secret
}

// set are the flags of the devices and the signer's authentication key, admin those of the
// administrator's.
func (w *world) set(more ...string) []string {
	args := []string{"--yubihsm-auth-key", "4", "--yubihsm-password-file", w.path("four")}
	for _, device := range w.devices {
		args = append(args, "--yubihsm-device", device)
	}
	return append(args, more...)
}

func (w *world) admin(more ...string) []string {
	return append([]string{"--yubihsm-admin-auth-key", "2", "--yubihsm-admin-password-file", w.path("two")}, more...)
}

// init runs `init --provider yubihsm` and returns what it prints.
func (w *world) init(order home.Order, args ...string) (string, error) {
	w.t.Helper()
	house := &provider.House{App: &cli.App{HomeFlag: w.home, Kinds: configKinds}, Providers: provider.Table{Provider().Entry}, Stores: provider.Stores{file.Store()}}
	order.Provider, order.Addrs = table, []string{"unix:///run/node/privval.sock"}
	if order.ChainID == "" {
		order.ChainID = "chain-1"
	}
	var out bytes.Buffer
	f := &Init{}
	cmd := &cobra.Command{Use: "init", SilenceErrors: true, SilenceUsage: true}
	order.From.Add(house, cmd)
	order.Form.Add(cmd)
	f.Add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.Check(&order); err != nil {
			return err
		}
		return f.Make(cmd, house, &order)
	}
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// config returns the config of the home folder.
func (w *world) config() *config.Config {
	w.t.Helper()
	c, err := configKinds.Load(filepath.Join(w.home, config.FileName))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// rows returns what Check says: verdict, chain, text, cure.
func (w *world) rows() (list []string) {
	w.t.Helper()
	r := &provider.Report{Config: w.config()}
	(&Holder{}).Check(w.t.Context(), r)
	for _, row := range r.Rows {
		if row.Check != table || row.Line == 0 {
			w.t.Errorf("a row of %+v", row)
		}
		list = append(list, fmt.Sprintf("%s %s %s -> %s", row.Verdict, row.Chain, row.Text, row.Cure))
	}
	return list
}

// untouched fails the test if the devices have other objects than at first.
func (w *world) untouched(before string) {
	w.t.Helper()
	if after := w.objects(); after != before {
		w.t.Errorf("the devices had %s, and have %s", before, after)
	}
}

// objects returns what is on the devices, with the public keys.
func (w *world) objects() string {
	var b strings.Builder
	for _, d := range w.dev {
		for _, o := range d.Objects() {
			fmt.Fprintf(&b, "%d/%d ", o.Type, o.ID)
			if o.Type == yubihsmtest.AsymmetricKey {
				fmt.Fprintf(&b, "%x ", d.Public(w.t, o.ID))
			}
		}
	}
	return b.String()
}
