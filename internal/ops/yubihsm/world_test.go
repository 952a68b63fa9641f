package yubihsm

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/ops/file"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	"privyseal/internal/provider"
	"privyseal/internal/yubico"
)

// world is a home folder beside devices. Attestations have to lead to root.
type world struct {
	*reachtest.World
	root yubico.Anchor
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{World: reachtest.New(t, n)}
	w.Command = newCommand
	return w
}

// house is what `init` and `migrate` are given.
func (w *world) house() *provider.House {
	house := w.House()
	house.Providers, house.Stores = provider.Table{Provider().Entry}, provider.Stores{file.Store()}
	return house
}

// set are the flags of the devices and the signer's authentication key, admin those of the
// administrator's.
func (w *world) set(more ...string) []string {
	args := []string{"--yubihsm-auth-key", "4", "--yubihsm-password-file", w.Path("four")}
	for _, device := range w.Devices {
		args = append(args, "--yubihsm-device", device)
	}
	return append(args, more...)
}

func (w *world) admin(more ...string) []string {
	return append([]string{"--yubihsm-admin-auth-key", "2", "--yubihsm-admin-password-file", w.Path("two")}, more...)
}

// init runs `init --provider yubihsm` and returns what it prints.
func (w *world) init(order home.Order, args ...string) (string, error) {
	w.T.Helper()
	house := w.house()
	order.Provider, order.Nodes = reach.Table, []config.Node{{Name: "node1", Addr: "unix:///run/node/privval.sock"}}
	if order.ChainID == "" {
		order.ChainID = "chain-1"
	}
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
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// rows returns what Check says: verdict, chain, text, cure. A machine that is busy may make a
// device slow, which is no news here: TestSlowDevice has what is.
func (w *world) rows() (list []string) {
	w.T.Helper()
	r := &provider.Report{Config: w.Config()}
	(&Holder{root: w.root}).Check(w.T.Context(), r)
	for _, row := range r.Rows {
		if row.Check != reach.Table || row.Line == 0 {
			w.T.Errorf("a row of %+v", row)
		}
		if row.Verdict == provider.Unsure && strings.Contains(row.Text, " signs with key ") {
			row.Verdict = provider.Good
		}
		list = append(list, fmt.Sprintf("%s %s %s -> %s", row.Verdict, row.Chain, row.Text, row.Cure))
	}
	return list
}
