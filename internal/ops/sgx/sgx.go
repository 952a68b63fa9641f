// Package sgx is Intel SGX as the operator meets it: quotes and their collateral, and the
// measurements of enclaves. It holds no keys yet.
package sgx

import (
	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/ops/sgx/collateral"
	"privyseal/internal/ops/sgx/manifest"
	"privyseal/internal/ops/sgx/measure"
	"privyseal/internal/ops/sgx/recovery"
	"privyseal/internal/ops/sgx/verify"
	"privyseal/internal/provider"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Documents: verify.Documents(),
		Commands:  func(*provider.House) []*cobra.Command { return []*cobra.Command{newCommand()} },
	}
}

// newCommand returns `privyseal sgx`.
func newCommand() *cobra.Command {
	return cli.NewGroup("sgx", "Measure SGX enclaves, fetch what verifies their quotes, and open backups", manifest.NewPolicy(), manifest.New(), measure.New(), collateral.New(), recovery.NewKey(), recovery.NewOpen(verify.Documents().Verifier()))
}
