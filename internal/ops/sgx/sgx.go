// Package sgx is the provider whose keys are in Intel SGX enclaves: its tables of the config,
// what check and init want of it, the enclave launched under Gramine, spoken to and served, and
// its own commands. The host that this runs on is not trusted by the enclave, and so nothing
// here is: what an enclave says about itself is verified where it counts.
//
// What needs no enclave is in rooms below: manifests and policies, measurements, quotes and
// their collateral, sealed keys as files, and what the holder of a recovery key does.
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
		Entry: entry(),
		InitHelp: home.Help{Text: `With --provider sgx the key is made inside the enclave in --sgx-folder, which is
launched if it does not run yet, and leaves it only sealed by the CPU, and as a backup
for the offline recovery key. The enclave's quote is compared with the signature in
the folder, and with --sgx-collateral verified up to Intel's root. An existing key
comes in with --sgx-backup; doc/sgx.md is the guide.`,
			Example: "privyseal init --provider sgx --sgx-folder sgx --chain-id chain-1 --node unix:///run/node/privval.sock"},
		Maker:     func() home.Maker { return &Maker{} },
		Documents: verify.Documents(),
		Commands:  func(a *provider.House) []*cobra.Command { return []*cobra.Command{newCommand(a)} },
	}
}

// newCommand returns `privyseal sgx`.
func newCommand(a *provider.House) *cobra.Command {
	return cli.NewGroup("sgx", "Make, measure and attest an Intel SGX enclave, and bring its keys back",
		manifest.NewPolicy(), manifest.New(), measure.New(), collateral.New(), recovery.NewKey(), recovery.NewMake(a, entry().Has), recovery.NewOpen(verify.Documents().Verifier()),
		newCloudWrap(a), newRecover(a), commands.NewAttest(a), commands.NewIdentity(a), commands.NewClient(a))
}
