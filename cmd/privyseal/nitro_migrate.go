package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	opsnitro "privyseal/internal/ops/nitro"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/migrate"
)

// nitroMigrateFlags are those of `privyseal migrate` for a key in an enclave.
type nitroMigrateFlags struct {
	enclave       enclaveFlags
	publicKey     string
	enclaveConfig string
	seen          *witnessFlag
}

func (f *nitroMigrateFlags) add(cmd *cobra.Command) {
	f.enclave.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.publicKey, "public-key", "", "the validator's public key in any format, where an enclave holds the key")
	fl.StringVar(&f.enclaveConfig, "enclave-config", "", "tmkms-light's enclave.toml (default: the one beside tmkms.toml)")
}

// takeOver takes over a chain whose key is a ciphertext of KMS.
func (t *takeOverFlags) takeOverEnclave(cmd *cobra.Command, a *app, in *installer, old *migrate.Installation, c migrate.Chain) error {
	f := &t.nitro
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	settings, err := f.takeEnclave(cmd, in, old)
	if err != nil {
		return err
	}
	for _, w := range slices.Concat(old.Warnings, old.Enclave.Warnings, c.Warnings) {
		fmt.Fprintln(stderr, "note:", w)
	}
	if f.publicKey == "" {
		return usagef("--public-key KEY is missing: the validator's, as tmkms-light printed it, or as in genesis.json; %s does not hold it", c.KeyFile)
	}
	key, err := parsePublicKey(f.publicKey)
	if err != nil {
		return usagef("--public-key: %w", err)
	}
	ch, err := convertToEnclave(c, t.name)
	if err != nil {
		return err
	}
	ch.Witness = f.seen.addrs
	if t.dryRun {
		fmt.Fprintf(stdout, "would write, in %s:\nchain %s\n  key    %s, %s, wrapped anew, from %s\n  state  %s, at %s\n", in.home, ch.Name, ch.Key, key, c.KeyFile, ch.State, markText(c.Mark))
		for _, n := range ch.Nodes {
			fmt.Fprintf(stdout, "  node   %s, %s\n", n.Name, n.Addr)
		}
		fmt.Fprintln(stdout, settings)
		printSteps(stdout, old.SwitchOff)
		_, err := fmt.Fprintln(stdout, "nothing was written, and no enclave was asked")
		return cmp.Or(err, t.gate(cmd, old.Source, c, ch.Chain, key))
	}
	if err := t.gate(cmd, old.Source, c, ch.Chain, key); err != nil {
		return err
	}
	e, err := f.enclave.open(cmd.Context(), a, in.config, true)
	if err != nil {
		return err
	}
	defer e.close()
	if r := e.policy.Region(); r != c.Region {
		return fmt.Errorf("the key is wrapped in region %s, and the image's KMS key is in %s; build an image for the old KMS key", c.Region, r)
	}
	imp := newImport(ch.ID, key, c.Mark)
	imp.KMS = c.KMS
	if err := in.installInEnclave(cmd.Context(), ch, e, typeFlag{}, imp); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: the state is at %s\n%s\n", ch.Name, markText(c.Mark), settings)
	if err := ch.report(stdout, in, e, formatFlags{Format: "json"}); err != nil {
		return err
	}
	printSteps(stdout, old.SwitchOff)
	in.next(stderr)
	return nil
}

// takeEnclave makes a new enclave's settings those of the old one, as far as no
// flag says otherwise, and tells what came of it.
func (f *nitroMigrateFlags) takeEnclave(cmd *cobra.Command, in *installer, old *migrate.Installation) (string, error) {
	if f.enclaveConfig != "" {
		if err := old.ReadEnclave(f.enclaveConfig); err != nil {
			return "", err
		}
	}
	e := old.Enclave
	if e.File == "" {
		e.Warnings = append(e.Warnings, "no enclave.toml was read, so memory and CPUs of the old enclave were not taken over; name it with --enclave-config FILE, or give --memory-mib and --cpu-count")
	}
	// Without --eif the name is known, and no more.
	name, _, isNew, err := f.enclave.choose(in.config)
	if err == nil && !isNew {
		return fmt.Sprintf("enclave %s of the config stays as it is; the old one had %v", name, e), nil
	}
	set := cmd.Flags().Changed
	if in.config != nil && !set("cid") {
		for other, has := range opsnitro.Enclaves(in.config) {
			if e.CID != 0 && has.CID == e.CID {
				e.Warnings = append(e.Warnings, fmt.Sprintf("cid %d was not taken over: enclave %s of the config has it", e.CID, other))
				e.CID = 0
			}
		}
	}
	if !set("cid") {
		f.enclave.cid = e.CID
	}
	if !set("memory-mib") {
		f.enclave.memory = e.MemoryMiB
	}
	if !set("cpu-count") && e.CPUCount != 0 {
		f.enclave.cpus = e.CPUCount
	}
	return fmt.Sprintf("enclave: %v taken over%s", e, f.overruled(set)), nil
}

// overruled names the flags that stand above the old settings.
func (f *nitroMigrateFlags) overruled(set func(flag string) bool) string {
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
func convertToEnclave(c migrate.Chain, name string) (*enclaveChain, error) {
	if err := config.CheckChainID(c.ID); err != nil {
		return nil, err
	}
	ch := newEnclaveChain(c.ID, name)
	for _, n := range c.Nodes {
		ch.Nodes = append(ch.Nodes, config.Node{Name: n.Name, Addr: n.Addr})
		ch.own = append(ch.own, n.Listens)
	}
	ch.ImportedFrom = []string{c.KeyFile}
	return ch, nil
}
