package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/session"
	"privyseal/internal/watermark"
)

// maker is what a provider has of `privyseal init`.
type maker interface {
	// add adds the flags that are the provider's own.
	add(cmd *cobra.Command)
	// check finds what is wrong with the command line alone.
	check(i *initFlags) error
	// run makes a chain.
	run(cmd *cobra.Command, a *provider.House, i *initFlags) error
}

// softMaker makes keys in files.
type softMaker struct{}

func (softMaker) add(*cobra.Command) {}

func (softMaker) run(cmd *cobra.Command, a *provider.House, i *initFlags) error { return i.run(a, cmd) }

func (softMaker) check(i *initFlags) error {
	given := i.from.count()
	switch {
	case i.importKey == "" && (i.from.file != "" || i.from.after != notAfter):
		return cli.Usagef("--import-state and --after-height go with --import-key: a new key has signed nothing")
	case i.importKey == "":
		i.from.fresh = true
	case given == 0:
		return cli.Usagef("an imported key may have signed before; add --import-state FILE with its state, --after-height H to sign nothing at or below a height, or --fresh-state if it has never signed for %s", i.chainID)
	case given > 1:
		return cli.Usagef("only one of --import-state, --fresh-state and --after-height can be true")
	}
	return i.from.check()
}

// addMakers adds the flags of all providers, and notes whose each is.
func (f *initFlags) addMakers(cmd *cobra.Command) {
	f.makers, f.owners = makers(), map[string]string{}
	known := map[string]bool{}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { known[flag.Name] = true })
	for _, e := range providers {
		f.makers[e.Name].add(cmd)
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if !known[flag.Name] {
				known[flag.Name], f.owners[flag.Name] = true, e.Name
			}
		})
	}
}

// foreignFlag refuses a flag of another provider.
func (f *initFlags) foreignFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if owner := f.owners[flag.Name]; owner != "" && owner != f.provider && err == nil {
			err = cli.Usagef("--%s goes with --provider %s", flag.Name, owner)
		}
	})
	return err
}

// initFlags are the flags of `privyseal init`.
type initFlags struct {
	provider  string
	makers    map[string]maker  // by provider
	owners    map[string]string // the provider of a flag that is not for all
	chainID   string
	name      string
	nodes     []string
	witness   witnessFlag
	importKey string
	from      startFlags
	keyType   cli.KeyType
	form      cli.KeyFormat
}

func newInitCommand(a *provider.House) *cobra.Command {
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

An imported key needs one of three: --import-state with the state of its old
signer, --fresh-state as your word that it has never signed for this chain id, or
--after-height H, at and below which nothing is ever signed.

With --provider nitro the key is made inside an enclave of the image --eif, which
is launched if it does not run yet, and leaves it only encrypted under the KMS key.
The document by which the enclave attests that is verified and printed. An existing
key comes in with --import-sealed or --import-kms; doc/nitro.md is the guide.`,
		Example: `  privyseal init --chain-id chain-1 --node unix:///run/node/privval.sock
  privyseal init --provider nitro --eif privyseal.eif --chain-id chain-1 --node unix:///run/node/privval.sock
  privyseal init --chain-id chain-1 --node a=unix:///run/a.sock --node b=noise://12D3KooW…@10.0.0.2:26659 \
      --import-key priv_validator_key.json --import-state priv_validator_state.json`,
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return f.makers[f.provider].run(cmd, a, f)
		},
	}
	cmd.Flags().StringVar(&f.provider, "provider", "soft", "who holds the key: "+a.Providers.Help())
	cmd.Flags().StringVar(&f.chainID, "chain-id", "", "chain to sign for")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the chain here, for a second key of the same chain id (default: the id)")
	cmd.Flags().StringArrayVar(&f.nodes, "node", nil, "[NAME=]ADDR of a node; may be repeated")
	cmd.Flags().StringVar(&f.importKey, "import-key", "", "key file of another signer (default: make a new key)")
	f.witness.add(cmd)
	f.from.add(a, cmd)
	f.from.addFile(cmd)
	f.from.addInitial(cmd)
	f.keyType.Add(cmd, "key-type", "", "type of the key, ed25519 if new")
	f.form.Add(cmd)
	f.addMakers(cmd)
	return cmd
}

func (f *initFlags) run(a *provider.House, cmd *cobra.Command) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	ch := &newChain{Chain: config.NewChain(f.chainID, f.name)}
	defer ch.wipe()
	ch.Witness = f.witness.addrs
	var err error
	if ch.Nodes, err = f.parseNodes(); err != nil {
		return err
	}
	in, err := newInstaller(a)
	if err != nil {
		return err
	}
	if err := in.checkFree(ch.Chain); err != nil {
		return err
	}
	if err := f.readKey(ch); err != nil {
		return err
	}
	if _, err := cli.FormatKey(ch.key.PublicKey(), f.form); err != nil {
		return err
	}
	if ch.saved, err = f.begin(cmd, in, ch); err != nil {
		return err
	}
	if err := in.install(ch); err != nil {
		return err
	}
	if err := ch.report(stdout, f.form); err != nil {
		return err
	}
	if f.importKey != "" {
		cli.WarnPlaintext(stderr, f.importKey)
	}
	f.witness.note(stderr)
	in.next(stderr)
	return nil
}

// begin returns the state to begin with: a new key has signed nothing, and any other
// comes through the gate.
func (f *initFlags) begin(cmd *cobra.Command, in *installer, ch *newChain) (watermark.Saved, error) {
	if f.importKey == "" {
		return watermark.Saved{Mark: f.from.mark()}, nil
	}
	ch.foreign = true
	return f.from.admit(cmd, ch.Chain, ch.key.PublicKey(), in.abs(ch.State), f.importKey)
}

// check finds what is wrong with the command line alone.
func (f *initFlags) check(cmd *cobra.Command) error {
	if f.makers[f.provider] == nil {
		return cli.Usagef("--provider %.20q is not %s", f.provider, f.from.house.Providers.Names())
	}
	if f.chainID == "" {
		return cli.Usagef("--chain-id is missing: the chain_id in the node's genesis.json")
	}
	if err := config.CheckChainID(f.chainID); err != nil {
		return cli.Usagef("--chain-id: %w", err)
	}
	if err := checkName(f.name); err != nil {
		return err
	}
	if err := f.witness.check(); err != nil {
		return err
	}
	if err := f.form.Check(); err != nil {
		return err
	}
	if _, err := f.keyType.Parse(); err != nil {
		return err
	}
	if err := f.foreignFlag(cmd); err != nil {
		return err
	}
	return f.makers[f.provider].check(f)
}

// checkName finds what is wrong with --name.
func checkName(name string) error {
	if name != "" && !config.ValidName(name) {
		return cli.Usagef("--name %.80q is not a name: %s", name, config.NameRule)
	}
	return nil
}

func (f *initFlags) parseNodes() ([]config.Node, error) {
	if len(f.nodes) == 0 {
		return nil, cli.Usagef("--node is missing: where the node waits for its signer, as in --node unix:///run/node/privval.sock")
	}
	var nodes []config.Node
	names, addrs := map[string]bool{}, map[string]bool{}
	for i, text := range f.nodes {
		name := fmt.Sprintf("node%d", i+1)
		// An = behind a slash or colon is part of an address.
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
			return nil, cli.Usagef("--node %s=%s: name or address is there twice", name, text)
		}
		names[name], addrs[addr.String()] = true, true
		nodes = append(nodes, config.Node{Name: name, Addr: addr.String()})
	}
	return nodes, nil
}

// readKey makes the key, or reads the one to import.
func (f *initFlags) readKey(ch *newChain) error {
	t, err := f.keyType.Parse()
	if err != nil {
		return err
	}
	if f.importKey == "" {
		if t == "" {
			t = pubkey.Ed25519
		}
		ch.key, err = soft.Generate(t)
		return err
	}
	source, err := filepath.Abs(f.importKey)
	if err != nil {
		return err
	}
	ch.ImportedFrom = []string{source}
	ch.key, err = soft.ReadForeign(f.importKey, t)
	return err
}
