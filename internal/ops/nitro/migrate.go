package nitro

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/enclavekey"
	"privyseal/internal/home"
	"privyseal/internal/migrate"
	"privyseal/internal/ops/nitro/seal"
	"privyseal/internal/pubkey/keytext"
)

// Taker is the flags of `privyseal migrate` for a key in an enclave.
type Taker struct {
	enclave       enclaveFlags
	publicKey     string
	enclaveConfig string
}

// Add implements [home.Taker].
func (f *Taker) Add(cmd *cobra.Command) {
	f.enclave.Add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.publicKey, "public-key", "", "the validator's public key in any format, where an enclave holds the key")
	fl.StringVar(&f.enclaveConfig, "enclave-config", "", "tmkms-light's enclave.toml (default: the one beside tmkms.toml)")
}

// Takes implements [home.Taker]: the key is a ciphertext of KMS.
func (f *Taker) Takes(c migrate.Chain) bool { return c.KMS != nil }

// Idle implements [home.Taker].
func (f *Taker) Idle() error {
	if f.publicKey != "" || f.enclave.Want.EIF != "" || f.enclaveConfig != "" {
		return cli.Usagef("--public-key, --eif and --enclave-config are for a key that an enclave holds, and the old signer has none in one")
	}
	return nil
}

// takeKey are the words of `privyseal init` that take the key over.
func (f *Taker) takeKey(c migrate.Chain) []string {
	words := []string{"--provider", providerName}
	if f.enclave.Want.EIF != "" { // else that of the config
		words = append(words, "--eif", f.enclave.Want.EIF)
	}
	return append(words, "--public-key", f.publicKey, "--import-kms", c.KeyFile)
}

// Take implements [home.ChainTaker].
func (f *Taker) Take(cmd *cobra.Command, in *home.Installer, old *migrate.Installation, c migrate.Chain, t *home.TakeOver) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	settings, err := f.takeEnclave(cmd, in, old)
	if err != nil {
		return err
	}
	for _, w := range slices.Concat(old.Warnings, old.Enclave.Warnings, c.Warnings) {
		fmt.Fprintln(stderr, "note:", w)
	}
	if f.publicKey == "" {
		return cli.Usagef("--public-key KEY is missing: the validator's, as tmkms-light printed it, or as in genesis.json; %s does not hold it", c.KeyFile)
	}
	key, err := keytext.Parse(f.publicKey)
	if err != nil {
		return cli.Usagef("--public-key: %w", err)
	}
	ch, err := convertToEnclave(in, c, t.Name)
	if err != nil {
		return err
	}
	ch.Witness = t.Witness
	if t.DryRun {
		fmt.Fprintf(stdout, "would write, in %s:\nchain %s\n  key    %s, %s, wrapped again, from %s\n  state  %s, at %s\n", in.Dir, ch.Name, ch.Key, key, c.KeyFile, ch.State, home.MarkText(c.Mark))
		for _, n := range ch.Nodes {
			fmt.Fprintf(stdout, "  node   %s, %s\n", n.Name, n.Addr)
		}
		fmt.Fprintln(stdout, settings)
		home.PrintSteps(stdout, old.SwitchOff)
		_, err := fmt.Fprintln(stdout, "nothing was written, and no enclave was asked")
		return cmp.Or(err, t.Gate(cmd, old.Source, c, ch.Chain, key, f.takeKey(c)...))
	}
	if err := t.Gate(cmd, old.Source, c, ch.Chain, key, f.takeKey(c)...); err != nil {
		return err
	}
	e, err := f.enclave.open(cmd.Context(), in.House, in.Config, true)
	if err != nil {
		return err
	}
	defer e.Close()
	if r := e.policy.Region(); r != c.Region {
		return fmt.Errorf("the key is wrapped in region %s, and the image's KMS key is in %s; build an image for the old KMS key", c.Region, r)
	}
	imp := seal.NewImport(ch.ID, key, c.Mark)
	imp.KMS = c.KMS
	if err := e.install(cmd.Context(), in, ch, "", imp); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: the state is at %s\n%s\n", ch.Name, home.MarkText(c.Mark), settings)
	if err := e.report(stdout, in, ch, keytext.Form{Format: "json"}); err != nil {
		return err
	}
	home.PrintSteps(stdout, old.SwitchOff)
	in.Next(stderr)
	return nil
}

// takeEnclave makes a new enclave's settings those of the old one, as far as no
// flag says otherwise, and reports the result.
func (f *Taker) takeEnclave(cmd *cobra.Command, in *home.Installer, old *migrate.Installation) (string, error) {
	if f.enclaveConfig != "" {
		if err := old.ReadEnclave(f.enclaveConfig); err != nil {
			return "", err
		}
	}
	e := old.Enclave
	if e.File == "" {
		e.Warnings = append(e.Warnings, "no enclave.toml was read, so memory and CPUs of the old enclave were not taken over; name it with --enclave-config FILE, or give --memory-mib and --cpu-count")
	}
	// Without --eif only the name is known.
	name, _, isNew, err := enclaves.Choose(in.Config, &f.enclave.Choice)
	if err == nil && !isNew {
		return fmt.Sprintf("enclave %s of the config stays as it is; the old one had %v", name, e), nil
	}
	set := cmd.Flags().Changed
	if in.Config != nil && !set("cid") {
		for other, has := range Enclaves(in.Config) {
			if e.CID != 0 && has.CID == e.CID {
				e.Warnings = append(e.Warnings, fmt.Sprintf("cid %d was not taken over: enclave %s of the config has it", e.CID, other))
				e.CID = 0
			}
		}
	}
	if !set("cid") {
		f.enclave.Want.CID = e.CID
	}
	if !set("memory-mib") {
		f.enclave.Want.MemoryMiB = e.MemoryMiB
	}
	if !set("cpu-count") && e.CPUCount != 0 {
		f.enclave.Want.CPUCount = e.CPUCount
	}
	return fmt.Sprintf("enclave: %v taken over%s", e, f.overruled(set)), nil
}

// overruled names the flags that stand above the old settings.
func (f *Taker) overruled(set func(flag string) bool) string {
	var flags []string
	for _, flag := range []string{"cid", "memory-mib", "cpu-count"} {
		if set(flag) {
			flags = append(flags, "--"+flag)
		}
	}
	if flags == nil {
		return ""
	}
	return ", but for " + strings.Join(flags, ", ")
}

// convertToEnclave returns the chain as we have it.
func convertToEnclave(in *home.Installer, c migrate.Chain, name string) (*enclavekey.Chain, error) {
	if err := config.CheckChainID(c.ID); err != nil {
		return nil, err
	}
	ch := newEnclaveChain(in, c.ID, name)
	for _, n := range c.Nodes {
		ch.Nodes = append(ch.Nodes, config.Node{Name: n.Name, Addr: n.Addr})
		ch.Own = append(ch.Own, n.Listens)
	}
	ch.ImportedFrom = []string{c.KeyFile}
	return ch, nil
}
