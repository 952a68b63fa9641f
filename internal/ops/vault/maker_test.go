package vault

import (
	"bytes"
	"context"
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
	"privyseal/internal/key/vault"
	"privyseal/internal/ops/file"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// made runs `init --provider vault` in a home folder and returns what it prints.
func (w *world) made(dir string, order home.Order, args ...string) (string, error) {
	w.t.Helper()
	house := &provider.House{App: &cli.App{HomeFlag: dir, Kinds: kinds}, Providers: provider.Table{Provider().Entry}, Stores: provider.Stores{file.Store()}}
	order.Provider, order.ChainID, order.Nodes = "vault", "chain-1", []config.Node{{Name: "node1", Addr: "unix:///run/node/privval.sock"}}
	var out bytes.Buffer
	f := &Init{}
	cmd := &cobra.Command{Use: "init", SilenceErrors: true, SilenceUsage: true}
	order.From.Add(house, cmd)
	cli.AddKeyForm(cmd, &order.Form)
	f.Add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.Check(&order); err != nil {
			return err
		}
		return f.Make(cmd, house, &order)
	}
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(w.flags(args...))
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// Each way to a key leaves a home folder that signs with it, and a key that may have
// signed before brings its state through the gate, before anything is made on the server.
func TestMake(t *testing.T) {
	w := newWorld(t)
	secret, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(w.home, "old.key")
	if err := keyfile.Create(old, secret); err != nil {
		t.Fatal(err)
	}
	imported := home.Order{ImportKey: old}
	for _, tt := range []struct {
		name  string
		order home.Order
		args  []string
		want  string // of the error, "" for none
	}{
		{"made", home.Order{}, []string{"--vault-key", "made"}, ""},
		{"taken without a state", home.Order{}, []string{"--vault-key", "made", "--vault-take"}, "a key that is taken may have signed before"},
		{"taken without a word", home.Order{}, []string{"--vault-key", "made", "--vault-take", "--after-height", "1000"}, "--yes"},
		{"taken", home.Order{}, []string{"--vault-key", "made", "--vault-take", "--after-height", "1000", "--yes"}, ""},
		{"imported without a state", imported, []string{"--vault-key", "old"}, "an imported key may have signed before"},
		{"imported without a word", imported, []string{"--vault-key", "old", "--after-height", "1000"}, "--yes"},
		{"imported", imported, []string{"--vault-key", "old", "--after-height", "1000", "--yes"}, ""},
		{"a state of a new key", home.Order{}, []string{"--vault-key", "new", "--after-height", "1000"}, "a new key has signed nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "home")
			out, err := w.made(dir, tt.order, tt.args...)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q\n%s", err, tt.want, out)
				}
				if _, err := os.Stat(dir); err == nil {
					t.Error("a home was made")
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c, err := kinds.Load(filepath.Join(dir, "privyseal.toml"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := Holder{}.Open(t.Context(), c, c.Chains[0])
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			signature, err := key.Sign(nil, []byte("a vote"), nil)
			if err != nil || !key.PublicKey().Verify([]byte("a vote"), signature) {
				t.Errorf("%x, %v", signature, err)
			}
			if tt.order.ImportKey != "" && (!key.PublicKey().Equal(secret.PublicKey()) || len(c.Chains[0].ImportedFrom) != 1) {
				t.Errorf("imported %v from %q", key.PublicKey(), c.Chains[0].ImportedFrom)
			}
		})
	}
	root, err := vault.New(vault.Config{Address: w.URL, CAFile: w.CAFile, TokenFile: w.admin})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Absent(t.Context(), "new"); err != nil {
		t.Error(err)
	}
}
