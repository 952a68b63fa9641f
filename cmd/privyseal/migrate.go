package main

import (
	"cmp"
	"errors"
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
	"privyseal/internal/pubkey"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

func newMigrateCommand(a *provider.House) *cobra.Command {
	t := &takeOverFlags{}
	cmd := &cobra.Command{
		Use:   "migrate cometbft|tmkms|tmkms-light|cosmos-kms|horcrux PATH",
		Short: "Take over from another signer: key, identity, state and connections",
		Long: `Take over the installation of another signer: its key, identity, state and
connection settings. PATH is

  cometbft     the home of a node that signs with its own key
  tmkms        its tmkms.toml, or the folder with it
  tmkms-light  the tmkms.toml of its software signer or its Nitro helper, or the
               folder with it
  cosmos-kms   its home, or the kms.yaml in it
  horcrux      the homes of as many cosigners as make the key, one PATH each, or
               the folder that they lie in

Stop the old signer first. Without its state, or while that still changes, nothing
is taken over. What the state says is shown, with its age, and wants your word: on a
terminal it asks, elsewhere --yes says so. Nothing of the old installation is changed
or deleted; at the end stands what to switch off there, in order.

Horcrux' shards are combined into the whole Ed25519 key, which is then in one file
like any other key here. Each cosigner's CHAIN_share_sign_state.json is needed; the
highest of all states counts. Nodes are those of all config.yaml, and of --node.

tmkms-light in a Nitro enclave goes into an enclave of ours: give the image with
--eif and the validator's public key with --public-key. The KMS key stays the same;
its policy has to let the new image in. Context id, memory and CPUs become those of
the old enclave, from tmkms.toml and the enclave.toml beside it, unless flags say
otherwise.`,
		Example: `  privyseal migrate tmkms /etc/tmkms --dry-run
  privyseal migrate horcrux cosigner_1 cosigner_3
  privyseal migrate tmkms-light /home/ec2-user/.tmkms --eif privyseal.eif --public-key 11qYAYKx…`,
		ValidArgs: migrate.Sources(),
		Args:      checkSource,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.run(cmd, a, args[0], args[1:])
		},
	}
	t.nitro.add(cmd)
	t.words.Add(a, cmd)
	t.seen.Add(cmd)
	t.nitro.seen = &t.seen
	cmd.Flags().StringVar(&t.name, "name", "", "name of its one chain here, for a second key of the same chain id (default: the id)")
	cmd.Flags().StringArrayVar(&t.nodes, "node", nil, "address of a node that no config.yaml of Horcrux names; may be repeated")
	cmd.Flags().BoolVar(&t.dryRun, "dry-run", false, "show what would be done, and write nothing")
	cmd.Flags().BoolVar(&t.fresh, "fresh-state", false, "where the old state says that a key has never signed, that is so")
	return cmd
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
	for _, s := range migrate.Sources() {
		if config.Distance(args[0], s) < 3 {
			hint = "did you mean " + s + "? "
		}
	}
	return cli.Usagef("cannot migrate from %q; %sit is one of %s", args[0], hint, strings.Join(migrate.Sources(), ", "))
}

// takeOverFlags are the flags of `privyseal migrate`.
type takeOverFlags struct {
	nitro  nitroMigrateFlags
	seen   home.WitnessFlag
	words  home.Words
	name   string // of its one chain here; "" is the id
	nodes  []string
	fresh  bool
	dryRun bool
}

// gate takes the state of the old signer through the gate.
func (t *takeOverFlags) gate(cmd *cobra.Command, source string, c migrate.Chain, ch config.Chain, public pubkey.Key) error {
	in := home.Incoming{Chain: ch.Name, Mark: c.Mark, Written: c.Written, From: fmt.Sprintf("%s, the state of %s", c.StateFile, source)}
	if t.fresh && c.Mark.IsZero() {
		in.Origin = home.FromNothing
	}
	g := t.words.Gate(cmd, ch, t.fresh)
	if len(c.KeyFiles()) == 1 { // no command takes parts of a key
		g.AtHeight = func() string { return t.byHand(t.words.House, c, ch, "--after-height H") }
		g.Take = func(path string) string { return t.byHand(t.words.House, c, ch, "--import-state "+shell.Word(path)) }
	}
	if t.dryRun { // what would be refused whatever the word
		g.Yes, g.Shown = true, io.Discard
	}
	return g.Admit(in, home.Here{Beside: home.Beside(ch.ID, public, []string{c.KeyFile})})
}

// gateAll takes all states of the old signer through the gate.
func (t *takeOverFlags) gateAll(cmd *cobra.Command, old *migrate.Installation, chains []*home.Chain) error {
	for i, ch := range chains {
		if err := t.gate(cmd, old.Source, old.Chains[i], ch.Chain, ch.SoftKey.PublicKey()); err != nil {
			return err
		}
	}
	return nil
}

// byHand returns the command line that takes over key and nodes of a chain, with
// another word of what the key has signed.
func (t *takeOverFlags) byHand(a *provider.House, c migrate.Chain, ch config.Chain, word string) string {
	words := []string{"--chain-id", ch.ID}
	if ch.Name != ch.ID {
		words = append(words, "--name", ch.Name)
	}
	for _, n := range ch.Nodes {
		words = append(words, "--node", n.Name+"="+n.Addr)
	}
	switch n := &t.nitro; {
	case c.KMS == nil:
		words = append(words, "--import-key", c.KeyFile)
	case n.enclave.eif == "": // that of the config
		words = append(words, "--provider", "nitro", "--public-key", n.publicKey, "--import-kms", c.KeyFile)
	default:
		words = append(words, "--provider", "nitro", "--eif", n.enclave.eif, "--public-key", n.publicKey, "--import-kms", c.KeyFile)
	}
	for i := range words {
		words[i] = shell.Word(words[i])
	}
	return a.Line("init %s %s", strings.Join(words, " "), word)
}

func (t *takeOverFlags) run(cmd *cobra.Command, a *provider.House, source string, paths []string) error {
	if len(t.nodes) > 0 && source != "horcrux" {
		return cli.Usagef("--node goes with horcrux; the nodes of %s are in its config", source)
	}
	if err := errors.Join(t.seen.Check(), home.CheckName(t.name)); err != nil {
		return err
	}
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	in, err := home.NewInstaller(a)
	if err != nil {
		return err
	}
	old, err := migrate.Read(cmd.Context(), migrate.Place{Source: source, Paths: paths, Nodes: t.nodes}, migrate.DefaultSettle)
	if err != nil {
		return err
	}
	nameHome(a, old)
	if t.name != "" && len(old.Chains) != 1 {
		return cli.Usagef("--name is for one chain, and this signer has %d", len(old.Chains))
	}
	for _, c := range old.Chains {
		if err := in.CheckFree(config.NewChain(c.ID, t.name)); err != nil {
			return err
		}
		if c.KMS != nil {
			return t.takeOverEnclave(cmd, a, in, old, c)
		}
	}
	if n := t.nitro; n.publicKey != "" || n.enclave.eif != "" || n.enclaveConfig != "" {
		return cli.Usagef("--public-key, --eif and --enclave-config are for a key that an enclave holds, and this one is in a file")
	}
	chains := make([]*home.Chain, len(old.Chains))
	for i, c := range old.Chains {
		if chains[i], err = convert(c, t.name, stderr); err != nil {
			return err
		}
		defer chains[i].Wipe()
		chains[i].Witness = t.seen.Addrs
	}
	for _, w := range old.Warnings {
		fmt.Fprintln(stderr, "note:", w)
	}
	if t.dryRun {
		err := showPlan(stdout, in, chains, old.SwitchOff)
		return cmp.Or(err, t.gateAll(cmd, old, chains))
	}
	if err := t.gateAll(cmd, old, chains); err != nil {
		return err
	}
	if err := in.Install(chains...); err != nil {
		return err
	}
	for _, ch := range chains {
		fmt.Fprintf(stderr, "%s: the state is at %s\n", ch.Name, home.MarkText(ch.Saved.Mark))
		if err := ch.Report(stdout, cli.KeyFormat{Format: "json"}); err != nil {
			return err
		}
	}
	printSteps(stdout, old.SwitchOff)
	t.seen.Note(stderr)
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

// showPlan prints what a run without --dry-run would do.
func showPlan(w io.Writer, in *home.Installer, chains []*home.Chain, steps []string) error {
	fmt.Fprintf(w, "would write, in %s:\n", in.Dir)
	for _, ch := range chains {
		fmt.Fprintf(w, "chain %s\n  key    %s, %s, from %s\n  state  %s, at %s\n", ch.Name, ch.Key, ch.SoftKey.PublicKey(), ch.ImportedFrom[0], ch.State, home.MarkText(ch.Saved.Mark))
		for _, n := range ch.Nodes {
			fmt.Fprintf(w, "  node   %s, %s\n", n.Name, n.Addr)
		}
	}
	printSteps(w, steps)
	_, err := fmt.Fprintln(w, "nothing was written")
	return err
}

// printSteps prints the closing list.
func printSteps(w io.Writer, steps []string) {
	fmt.Fprintln(w, "\nthen, in this order:")
	for i, s := range steps {
		fmt.Fprintf(w, "%2d. %s\n", i+1, s)
	}
}
