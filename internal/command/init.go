package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/cure"
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/session"
	"privyseal/internal/witness"
)

// addOwned adds the flags of all providers and stores, and notes whose each is.
func (f *initFlags) addOwned(cmd *cobra.Command, build home.Build) {
	f.makers, f.picks, f.owners = map[string]home.Maker{}, map[string]cli.Pick{}, map[string]string{}
	grouped := func(owner string, add func()) {
		for _, flag := range cli.Grouped(cmd, "With --"+owner, add) {
			f.owners[flag] = owner
		}
	}
	for _, e := range build.Providers {
		if e.Name == "" {
			continue
		}
		f.makers[e.Name] = e.Maker()
		grouped("provider "+e.Name, func() { f.makers[e.Name].Add(cmd) })
	}
	for _, s := range build.Stores {
		if s.Flags != nil {
			grouped("store "+s.Name, func() { f.picks[s.Name] = s.Flags(cmd.Flags()) })
		}
	}
}

// foreignFlag refuses a flag of another provider or store.
func (f *initFlags) foreignFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		owner := f.owners[flag.Name]
		if owner != "" && owner != "provider "+f.Provider && owner != "store "+f.Store && err == nil {
			err = cli.Usagef("--%s goes with --%s", flag.Name, owner)
		}
	})
	return err
}

// initFlags are the flags of `privyseal init`.
type initFlags struct {
	home.Order
	nodes  []string              // [NAME=]ADDR
	makers map[string]home.Maker // by provider
	picks  map[string]cli.Pick   // by store
	owners map[string]string     // whose a flag is that is not for all, as in "provider soft"
}

func newInitCommand(a *provider.House, build home.Build) *cobra.Command {
	f := &initFlags{}
	cmd := &cobra.Command{
		Use:   "init --chain-id ID --node [NAME=]ADDR",
		Short: "Make config, key and state for a chain, and say what its node needs",
		Long: `Make config, key and state for a chain in the home folder, print its public key
and the line for the node's config.toml. With another chain id it adds that chain
to the config and touches nothing else. Nothing is ever overwritten.

A node's address is unix:///path, tcp://[node-id@]host:port or
noise://peer-id@host:port; prefer unix on one host, noise (CometBFT v0.40) between
hosts: over tcp neither side knows who the other is.

An imported key needs one of four: --import-state with the state of its old
signer, --fresh-state to confirm that it has never signed for this chain id,
--after-height H, at and below which nothing is ever signed, or --join-state where
signers of other hosts share its state.`,
		Example: `  privyseal init --chain-id chain-1 --node unix:///run/node/privval.sock
  privyseal init --chain-id chain-1 --node a=unix:///run/a.sock --node b=noise://12D3KooW…@10.0.0.2:26659 \
      --import-key priv_validator_key.json --import-state priv_validator_state.json`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd, a); err != nil {
				return err
			}
			f.Pick = f.picks[f.Store]
			return f.makers[f.Provider].Make(cmd, a, &f.Order)
		},
	}
	cmd.Flags().StringVar(&f.Provider, "provider", a.Providers[0].Name, "who holds the key: "+a.Providers.Help())
	cmd.Flags().StringVar(&f.Store, "store", a.Stores[0].Name, "what keeps the state: "+a.Stores.Names())
	cmd.Flags().StringVar(&f.ChainID, "chain-id", "", "chain to sign for")
	cmd.Flags().StringVar(&f.Name, "name", "", "name of the chain here, for a second key of the same chain id (default: the id)")
	cmd.Flags().StringArrayVar(&f.nodes, "node", nil, "[NAME=]ADDR of a node; may be repeated")
	cmd.Flags().StringVar(&f.ImportKey, "import-key", "", "key file of another signer (default: make a new key)")
	addWitness(cmd, &f.Witness)
	f.From.Add(a, cmd)
	f.From.AddFile(cmd)
	f.From.AddInitial(cmd)
	cmd.Flags().BoolVar(&f.Join, "join-state", false, "share the state that signers of other hosts have, as in etcd")
	cli.AddKeyType(cmd, &f.KeyType, "key-type", "type of the key, ed25519 if new")
	cli.AddKeyForm(cmd, &f.Form)
	f.addOwned(cmd, build)
	for _, p := range build.Providers {
		p.InitHelp.AddTo(cmd)
	}
	return cmd
}

// check finds what is wrong with the command line alone.
func (f *initFlags) check(cmd *cobra.Command, a *provider.House) error {
	if f.makers[f.Provider] == nil {
		return cli.Usagef("--provider %.20q is not %s", f.Provider, a.Providers.Names())
	}
	if !a.Stores.Has(f.Store) {
		return cli.Usagef("--store %.20q is not in this build, which has %s", f.Store, a.Stores.Names())
	}
	if f.Store != a.Stores[0].Name {
		e, _ := a.Providers.Of(config.Chain{Provider: f.Provider})
		if _, makes := e.Holder.(home.StateMaker); makes {
			err := cli.Usagef("--store %s: with provider %s the state begins in store %s", f.Store, f.Provider, a.Stores[0].Name)
			if _, reaches := e.Holder.(provider.Reacher); reaches {
				return cure.Add(err, "make the chain without --store; then its state moves: %s", a.Command("state move --to %s", f.Store))
			}
			return err
		}
	}
	if f.Join && f.Store == a.Stores[0].Name {
		return cli.Usagef("--join-state goes with a store that several hosts share, as in --store etcd")
	}
	if err := f.checkChain(); err != nil {
		return err
	}
	if err := f.foreignFlag(cmd); err != nil {
		return err
	}
	if err := f.checkType(a.Providers); err != nil {
		return err
	}
	if err := f.makers[f.Provider].Check(&f.Order); err != nil {
		return err
	}
	return f.readNodes()
}

// checkChain finds what is wrong with what is said of the chain.
func (f *initFlags) checkChain() error {
	if f.ChainID == "" {
		return cli.Usagef("--chain-id is missing: the chain_id in the node's genesis.json")
	}
	if err := config.CheckChainID(f.ChainID); err != nil {
		return cli.Usagef("--chain-id: %w", err)
	}
	if err := checkFlags(f.Name, f.Witness); err != nil {
		return err
	}
	if err := f.Form.Check(); err != nil {
		return cli.Usage(err)
	}
	return nil
}

// checkFlags finds what is wrong with --name and --witness, of init and migrate alike.
func checkFlags(name string, witnesses []string) error {
	if name != "" {
		if err := config.CheckName(name); err != nil {
			return cli.Usagef("--name %w", err)
		}
	}
	if err := witness.CheckAddrs(witnesses); err != nil {
		return cli.Usagef("--witness: %w", err)
	}
	return nil
}

// readNodes reads the nodes.
func (f *initFlags) readNodes() error {
	if len(f.nodes) == 0 {
		return cli.Usagef("--node is missing: the address at which the node waits for its signer, as in --node unix:///run/node/privval.sock")
	}
	names, addrs := map[string]bool{}, map[string]bool{}
	for i, text := range f.nodes {
		name := fmt.Sprintf("node%d", i+1)
		// An = after a slash or colon is part of an address.
		if before, after, found := strings.Cut(text, "="); found && !strings.ContainsAny(before, "/:") {
			name, text = before, after
		}
		if !config.ValidName(name) {
			return cli.Usagef("--node %.80q: the name is not %s", name, config.NameRule)
		}
		addr, err := session.ParseAddr(text)
		if err != nil {
			return cli.Usagef("--node %s: %w", name, err)
		}
		if names[name] || addrs[addr.String()] {
			return cli.Usagef("--node %s=%s: duplicate name or address", name, text)
		}
		names[name], addrs[addr.String()] = true, true
		f.Nodes = append(f.Nodes, config.Node{Name: name, Addr: addr.String()})
	}
	return nil
}

// checkType refuses a type of which the provider has no keys.
func (f *initFlags) checkType(providers provider.Table) error {
	if f.KeyType == "" {
		return nil
	}
	e, err := providers.Of(config.Chain{Provider: f.Provider})
	if err == nil {
		err = e.Has(f.KeyType)
	}
	if err != nil {
		return cli.Usagef("--key-type: %w", err)
	}
	return nil
}
