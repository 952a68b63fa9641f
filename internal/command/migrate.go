package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/home"
	"privyseal/internal/migrate"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/spelling"
	"privyseal/internal/watermark"
)

func newMigrateCommand(a *provider.House, build home.Build) *cobra.Command {
	t := &migrateFlags{}
	cmd := &cobra.Command{
		Use:   "migrate cometbft|tmkms|tmkms-light|cosmos-kms|horcrux PATH",
		Short: "Take over from another signer: key, identity, state and connections",
		Long: `Take over the installation of another signer: its key, identity, state and
connection settings. PATH is

  cometbft     the home of a node that signs with its own key
  tmkms        its tmkms.toml, or the folder with it
  tmkms-light  the tmkms.toml of its software signer, its Nitro helper or its SGX
               runner, or the folder with it
  cosmos-kms   its home, or the kms.yaml in it
  horcrux      the homes of enough cosigners to make up the key, one PATH each,
               or the folder that holds them

Stop the old signer first. Without its state, or while that still changes, nothing
is taken over. It shows what the state says, and its age, and asks you to confirm that;
without a terminal, --yes confirms. Nothing of the old installation is changed or
deleted; at the end it lists what to switch off there, in order.

Horcrux' shards are combined into the whole Ed25519 key, which is then in one file
like any other key here. Each cosigner's CHAIN_share_sign_state.json is needed; the
highest of all states counts. The nodes are those of every config.yaml, and of --node.

What tmkms-light's SGX enclave has sealed, only that enclave opens, on its CPU. Its
key is taken out of its backup, consensus-key.backup, with --sgx-backup and
--sgx-backup-key: the 32 bytes that the HSM of the cloud holds. The key is in plain text
then, so do this offline; into an SGX enclave it comes by "privyseal sgx make-backup".`,
		Example: `  privyseal migrate tmkms /etc/tmkms --dry-run
  privyseal migrate horcrux cosigner_1 cosigner_3`,
		ValidArgs: migrate.Sources(),
		Args:      checkSource,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, a, args[0], args[1:])
		},
	}
	for _, p := range build.Providers {
		if p.Taker != nil {
			taker := p.Taker()
			cli.Grouped(cmd, "For a key that provider "+p.Name+" holds", func() { taker.Add(cmd) })
			t.takers = append(t.takers, taker)
		}
		p.MigrateHelp.AddTo(cmd)
	}
	t.Words.Add(a, cmd)
	addWitness(cmd, &t.Witness)
	cmd.Flags().StringVar(&t.Name, "name", "", "name of its only chain here, for a second key of the same chain id (default: the id)")
	cmd.Flags().StringArrayVar(&t.Nodes, "node", nil, "address of a node that no config.yaml of Horcrux names; may be repeated")
	addBackup(cmd, &t.backup)
	cmd.Flags().BoolVar(&t.DryRun, "dry-run", false, "show what would be done, and write nothing")
	cmd.Flags().BoolVar(&t.Fresh, "fresh-state", false, "confirm that a key has never signed, if the old state says so")
	return cmd
}

// addBackup adds the flags of keys that an SGX enclave of tmkms-light has.
func addBackup(cmd *cobra.Command, b *migrate.SGXBackup) {
	cmd.Flags().StringVar(&b.Backup, "sgx-backup", "", "consensus-key.backup of tmkms-light's SGX provider")
	cmd.Flags().StringVar(&b.Key, "sgx-backup-key", "", "file of the 32 bytes that it is encrypted under, raw or in base64")
	cmd.Flags().StringVar(&b.External, "sgx-external-key", "", "in place of that: the external key file (-e of tmkms-light)")
	cmd.Flags().StringVar(&b.WrapKey, "sgx-wrap-key", "", "private key in PEM that the external key was encrypted to")
}

func checkSource(cmd *cobra.Command, args []string) error {
	several := len(args) > 2 && args[0] == "horcrux"
	if err := cli.Arguments("the old signer", "PATH")(cmd, args[:min(len(args), 3)]); err != nil && !several {
		return err
	}
	if slices.Contains(migrate.Sources(), args[0]) {
		return nil
	}
	hint := ""
	if near := spelling.Near(args[0], migrate.Sources()); near != "" {
		hint = "did you mean " + near + "? "
	}
	return cli.Usagef("cannot migrate from %q; %sit is one of %s", args[0], hint, strings.Join(migrate.Sources(), ", "))
}

// migrateFlags are the flags of `privyseal migrate`.
type migrateFlags struct {
	home.TakeOver
	takers home.Takers
	backup migrate.SGXBackup
}

// gateAll takes all states of the old signer through the gate.
func (t *migrateFlags) gateAll(cmd *cobra.Command, old *migrate.Installation, chains []*home.Chain, takeKey [][]string) error {
	for i, ch := range chains {
		if err := t.Gate(cmd, old.Source, old.Chains[i], ch.Chain, ch.PublicKey(), takeKey[i]...); err != nil {
			return err
		}
	}
	return nil
}

func (t *migrateFlags) run(cmd *cobra.Command, a *provider.House, source string, paths []string) error {
	if len(t.Nodes) > 0 && source != "horcrux" {
		return cli.Usagef("--node goes with horcrux; the nodes of %s are in its config", source)
	}
	if t.backup != (migrate.SGXBackup{}) && source != "tmkms-light" {
		return cli.Usagef("--sgx-backup and what opens it go with tmkms-light")
	}
	if err := checkFlags(t.Name, t.Witness); err != nil {
		return err
	}
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	old, err := migrate.Read(cmd.Context(), migrate.Place{Source: source, Paths: paths, Nodes: t.Nodes, SGX: t.backup}, migrate.DefaultSettle)
	if err != nil {
		return err
	}
	nameHome(a, old)
	if t.Name != "" && len(old.Chains) != 1 {
		return cli.Usagef("--name is for one chain, and this signer has %d", len(old.Chains))
	}
	for _, c := range old.Chains {
		if err := in.CheckFree(config.NewChain(c.ID, t.Name)); err != nil {
			return err
		}
		if taker, ok := t.takers.Of(c).(home.ChainTaker); ok {
			return taker.Take(cmd, in, old, c, &t.TakeOver)
		}
	}
	if err := t.takers.Idle(old.Chains); err != nil {
		return err
	}
	return t.takeAll(cmd, in, old)
}

// takeAll takes over chains whose keys this process signs with.
func (t *migrateFlags) takeAll(cmd *cobra.Command, in *home.Installer, old *migrate.Installation) (err error) {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	chains, takeKey := make([]*home.Chain, len(old.Chains)), make([][]string, len(old.Chains))
	for i, c := range old.Chains {
		if chains[i], err = convert(c, t.Name, stderr); err != nil {
			return err
		}
		defer chains[i].Wipe()
		chains[i].Witness = t.Witness
		if takeKey[i], err = t.takers.TakeKey(cmd.Context(), in, c, chains[i]); err != nil {
			return err
		}
	}
	for _, w := range old.Warnings {
		fmt.Fprintln(stderr, "note:", w)
	}
	if t.DryRun {
		err := showPlan(stdout, in, chains, old)
		return cmp.Or(err, t.gateAll(cmd, old, chains, takeKey))
	}
	if err := t.gateAll(cmd, old, chains, takeKey); err != nil {
		return err
	}
	if err := in.Install(chains...); err != nil {
		return err
	}
	for _, ch := range chains {
		fmt.Fprintf(stderr, "%s: the state is at %s\n", ch.Name, home.MarkText(ch.Saved.Mark))
		if err := ch.Report(stdout, keytext.Form{Format: "json"}); err != nil {
			return err
		}
	}
	home.PrintSteps(stdout, old.SwitchOff)
	home.NoteWitness(stderr, t.Witness)
	in.Next(stderr)
	return nil
}

// nameHome puts our home into the commands that are to be typed.
func nameHome(a *provider.House, old *migrate.Installation) {
	lists := [][]string{old.Warnings, old.SwitchOff}
	for _, c := range old.Chains {
		lists = append(lists, c.Warnings)
	}
	for _, list := range lists {
		for i := range list {
			list[i] = a.InHome(list[i])
		}
	}
}

// convert returns the chain as we have it.
func convert(c migrate.Chain, name string, stderr io.Writer) (*home.Chain, error) {
	if err := config.CheckChainID(c.ID); err != nil {
		return nil, err
	}
	ch := &home.Chain{
		Chain: config.NewChain(c.ID, name), SoftKey: c.Key, SoftIdentity: c.Identity,
		Saved: watermark.Saved{Mark: c.Mark, Time: c.Written}, Foreign: true,
	}
	for _, n := range c.Nodes {
		ch.Nodes = append(ch.Nodes, config.Node{Name: n.Name, Addr: n.Addr})
		ch.Listens = append(ch.Listens, n.Listens)
	}
	ch.MaxHeight = c.MaxHeight
	ch.ImportedFrom = c.KeyFiles()
	if c.IdentityFile != "" {
		ch.ImportedFrom = append(ch.ImportedFrom, c.IdentityFile)
	}
	if c.Timeout > 0 {
		ch.Timeout.Duration = min(max(c.Timeout, config.MinTimeout), config.MaxTimeout)
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(stderr, "note: %s: %s\n", c.ID, w)
	}
	if ch.Timeout.Duration != c.Timeout && c.Timeout > 0 {
		fmt.Fprintf(stderr, "note: %s: the timeout of %s becomes %s\n", c.ID, c.Timeout, ch.Timeout.Round(time.Second))
	}
	return ch, nil
}

// showTables prints what of the config is new beside the chains, and what else is made. A
// table with a secret is only named.
func showTables(w io.Writer, in *home.Installer, chains []*home.Chain) {
	tables := home.NewTables(chains)
	for table, sections := range tables {
		for name, section := range sections {
			if _, secret := section.Secret(); secret {
				fmt.Fprintf(w, "table [%s.%s], with a secret\n", table, name)
				delete(sections, name)
			}
		}
	}
	for _, block := range strings.Split(strings.TrimSpace(in.House.Kinds.Render(tables)), "\n\n") {
		if block != "" {
			fmt.Fprintf(w, "table %s\n", strings.ReplaceAll(block, "\n", "\n  "))
		}
	}
	for _, ch := range chains {
		for _, path := range ch.Makes {
			fmt.Fprintf(w, "file %s\n", path)
		}
	}
}

// showPlan prints what a run without --dry-run would do.
func showPlan(w io.Writer, in *home.Installer, chains []*home.Chain, old *migrate.Installation) error {
	fmt.Fprintf(w, "would write, in %s:\n", in.Dir)
	showTables(w, in, chains)
	for i, ch := range chains {
		fmt.Fprintf(w, "chain %s\n  key    %s, %s, from %s\n  state  %s, at %s\n", ch.Name, ch.Key, ch.PublicKey(), old.Chains[i].Origin(), ch.State, home.MarkText(ch.Saved.Mark))
		for _, n := range ch.Nodes {
			fmt.Fprintf(w, "  node   %s, %s\n", n.Name, n.Addr)
		}
	}
	home.PrintSteps(w, old.SwitchOff)
	_, err := fmt.Fprintln(w, "nothing was written")
	return err
}
