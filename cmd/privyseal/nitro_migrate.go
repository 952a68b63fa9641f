package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"privyseal/internal/config"
	"privyseal/internal/migrate"
)

// nitroMigrateFlags are those of `privyseal migrate` for a key in an enclave.
type nitroMigrateFlags struct {
	enclave   enclaveFlags
	publicKey string
}

// takeOver takes over a chain whose key is a ciphertext of KMS.
func (f *nitroMigrateFlags) takeOver(cmd *cobra.Command, a *app, in *installer, old *migrate.Installation, c migrate.Chain, dryRun bool) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, w := range append(old.Warnings, c.Warnings...) {
		fmt.Fprintln(stderr, "note:", w)
	}
	if f.publicKey == "" {
		return usagef("--public-key KEY is missing: the validator's, as tmkms-light printed it, or as in genesis.json; %s does not hold it", c.KeyFile)
	}
	key, err := parsePublicKey(f.publicKey)
	if err != nil {
		return usagef("--public-key: %w", err)
	}
	ch, err := convertToEnclave(c)
	if err != nil {
		return err
	}
	if dryRun {
		fmt.Fprintf(stdout, "would write, in %s:\nchain %s\n  key    %s, %s, wrapped anew, from %s\n  state  %s, at %s\n", in.home, ch.ID, ch.Key, key, c.KeyFile, ch.State, markText(c.Mark))
		for _, n := range ch.Nodes {
			fmt.Fprintf(stdout, "  node   %s, %s\n", n.Name, n.Addr)
		}
		printSteps(stdout, old.SwitchOff)
		_, err := fmt.Fprintln(stdout, "nothing was written, and no enclave was asked")
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
	if err := ch.make(cmd.Context(), in, e, typeFlag{}, imp); err != nil {
		return err
	}
	if err := in.installInEnclave(ch, e); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: the state is at %s\n", ch.ID, markText(c.Mark))
	if err := ch.report(stdout, in, e, formatFlags{format: "json"}); err != nil {
		return err
	}
	printSteps(stdout, old.SwitchOff)
	in.next(stderr)
	return nil
}

// convertToEnclave returns the chain as we have it.
func convertToEnclave(c migrate.Chain) (*enclaveChain, error) {
	if err := config.CheckChainID(c.ID); err != nil {
		return nil, err
	}
	ch := newEnclaveChain(c.ID)
	for _, n := range c.Nodes {
		ch.Nodes = append(ch.Nodes, config.Node{Name: n.Name, Addr: n.Addr})
	}
	ch.ImportedFrom = []string{c.KeyFile}
	return ch, nil
}
