package home

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/provider"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
)

// Maker is what a provider has of `privyseal init`.
type Maker interface {
	// Add adds the flags that are the provider's own.
	Add(cmd *cobra.Command)
	// Check finds what is wrong with the command line alone.
	Check(o *Order) error
	// Make makes a chain.
	Make(cmd *cobra.Command, a *provider.House, o *Order) error
}

// Plain is the [Maker] of a provider without flags of its own. It makes the key of a
// chain, or reads the one to import: [Order.Install] says where it goes.
type Plain func(o *Order, in *Installer, ch *Chain) error

// Add implements [Maker].
func (Plain) Add(*cobra.Command) {}

// Check implements [Maker].
func (Plain) Check(o *Order) error { return o.CheckState() }

// Make implements [Maker].
func (key Plain) Make(cmd *cobra.Command, a *provider.House, o *Order) error {
	return o.Install(cmd, a, func(in *Installer, ch *Chain) error { return key(o, in, ch) })
}

// Order is what `privyseal init` was asked for, whoever holds the key.
type Order struct {
	Provider  string
	ChainID   string
	Name      string
	Addrs     []string // of the nodes, [NAME=]ADDR
	Witness   WitnessFlag
	ImportKey string
	// Taken says that the key is one that was there before, though no file of it is
	// imported: it may have signed.
	Taken   bool
	From    Start
	KeyType cli.KeyType
	Form    cli.KeyFormat
}

// Check finds what is wrong with the command line alone, but for what its provider needs.
func (o *Order) Check() error {
	if o.ChainID == "" {
		return cli.Usagef("--chain-id is missing: the chain_id in the node's genesis.json")
	}
	if err := config.CheckChainID(o.ChainID); err != nil {
		return cli.Usagef("--chain-id: %w", err)
	}
	if err := CheckName(o.Name); err != nil {
		return err
	}
	if err := o.Witness.Check(); err != nil {
		return err
	}
	if err := o.Form.Check(); err != nil {
		return err
	}
	_, err := o.KeyType.Parse()
	return err
}

// CheckState finds what is wrong with what is said of the state of a key that this
// process signs with.
func (o *Order) CheckState() error {
	given := o.From.Count()
	switch {
	case !o.old() && (o.From.File != "" || o.From.After != NotAfter):
		return cli.Usagef("--import-state and --after-height go with --import-key: a new key has signed nothing")
	case !o.old():
		o.From.Fresh = true
	case given == 0:
		return cli.Usagef("an imported key may have signed before; add --import-state FILE with its state, --after-height H to sign nothing at or below a height, or --fresh-state if it has never signed for %s", o.ChainID)
	case given > 1:
		return cli.Usagef("give only one of --import-state, --fresh-state and --after-height")
	}
	return o.From.Check()
}

// old reports whether the key may have signed before.
func (o *Order) old() bool { return o.ImportKey != "" || o.Taken }

// Install makes a chain whose key this process signs with. key makes the key, or takes it
// in: as SoftKey, or as Public with what the provider keeps in Files; what is to be done
// elsewhere for it waits for Make. A key that came from --import-key has ImportedFrom.
func (o *Order) Install(cmd *cobra.Command, a *provider.House, key func(in *Installer, ch *Chain) error) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	ch := &Chain{Chain: config.NewChain(o.ChainID, o.Name)}
	defer ch.Wipe()
	ch.Provider, ch.Witness = o.Provider, o.Witness.Addrs
	e, err := a.Providers.Of(ch.Chain)
	if err != nil {
		return err
	}
	if ch.Nodes, err = o.Nodes(); err != nil {
		return err
	}
	in, err := NewInstaller(a)
	if err != nil {
		return err
	}
	if err := in.CheckFree(ch.Chain); err != nil {
		return err
	}
	if err := key(in, ch); err != nil {
		return err
	}
	if err := o.fits(e, ch); err != nil {
		return err
	}
	if made := ch.Make; made != nil {
		ch.Make = func() error {
			if err := made(); err != nil {
				return err
			}
			return o.fits(e, ch)
		}
	}
	if ch.Saved, err = o.begin(cmd, in, ch); err != nil {
		return err
	}
	if err := in.Install(ch); err != nil {
		return err
	}
	if err := ch.Report(stdout, o.Form); err != nil {
		return err
	}
	if o.ImportKey != "" {
		cli.WarnPlaintext(stderr, o.ImportKey)
	}
	o.Witness.Note(stderr)
	in.Next(stderr)
	return nil
}

// fits refuses a key that is not the one that was asked for, as by a provider that
// imports none, or makes one type only, and does not say so. What is made at last is not
// known yet.
func (o *Order) fits(e provider.Entry, ch *Chain) error {
	if o.ImportKey != "" && len(ch.ImportedFrom) == 0 {
		return cli.Usagef("--import-key: provider %s imports no keys", e.Name)
	}
	public := ch.PublicKey()
	if public.IsZero() {
		return nil
	}
	want, err := o.KeyType.Parse()
	if err == nil && want != "" && want != public.Type() {
		err = cli.Usagef("--key-type %s: provider %s makes %s keys", want, e.Name, public.Type())
	}
	if err == nil {
		err = e.Has(public.Type())
	}
	if err == nil {
		_, err = cli.FormatKey(public, o.Form)
	}
	return err
}

// begin returns the state to begin with: a new key has signed nothing, and any other
// comes through the gate.
func (o *Order) begin(cmd *cobra.Command, in *Installer, ch *Chain) (watermark.Saved, error) {
	if !o.old() {
		return watermark.Saved{Mark: o.From.mark()}, nil
	}
	ch.Foreign = true
	var files []string
	if o.ImportKey != "" {
		files = []string{o.ImportKey}
	}
	return o.From.Admit(cmd, ch.Chain, ch.PublicKey(), in.Abs(ch.State), files...)
}

// CheckName finds what is wrong with --name.
func CheckName(name string) error {
	if name != "" && !config.ValidName(name) {
		return cli.Usagef("--name %.80q is not a name: %s", name, config.NameRule)
	}
	return nil
}

// Nodes returns the nodes.
func (o *Order) Nodes() ([]config.Node, error) {
	if len(o.Addrs) == 0 {
		return nil, cli.Usagef("--node is missing: where the node waits for its signer, as in --node unix:///run/node/privval.sock")
	}
	var nodes []config.Node
	names, addrs := map[string]bool{}, map[string]bool{}
	for i, text := range o.Addrs {
		name := fmt.Sprintf("node%d", i+1)
		// An = after a slash or colon is part of an address.
		if before, after, found := strings.Cut(text, "="); found && !strings.ContainsAny(before, "/:") {
			name, text = before, after
		}
		if !config.ValidName(name) {
			return nil, cli.Usagef("--node %.80q: the name is not %s", name, config.NameRule)
		}
		addr, err := session.ParseAddr(text)
		if err != nil {
			return nil, cli.Usagef("--node %s: %w", name, err)
		}
		if names[name] || addrs[addr.String()] {
			return nil, cli.Usagef("--node %s=%s: duplicate name or address", name, text)
		}
		names[name], addrs[addr.String()] = true, true
		nodes = append(nodes, config.Node{Name: name, Addr: addr.String()})
	}
	return nodes, nil
}
