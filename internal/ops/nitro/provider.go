package nitro

import (
	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/seal"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: entry(),
		InitHelp: home.Help{Text: `With --provider nitro the key is made inside an enclave of the image --eif, which
is launched if it does not run yet, and leaves it only encrypted under the KMS key.
The enclave's attestation of that is verified and printed. An existing key comes in
with --import-sealed or --import-kms; doc/nitro.md is the guide.`,
			Example: "privyseal init --provider nitro --eif privyseal.eif --chain-id chain-1 --node unix:///run/node/privval.sock"},
		MigrateHelp: home.Help{Text: `tmkms-light in a Nitro enclave moves into a privyseal enclave: give the image with
--eif and the validator's public key with --public-key. The KMS key stays the same;
its policy has to let the new image in. Context id, memory and CPUs become those of
the old enclave, from tmkms.toml and the enclave.toml beside it, unless flags say
otherwise.`,
			Example: "privyseal migrate tmkms-light /home/ec2-user/.tmkms --eif privyseal.eif --public-key 11qYAYKx…"},
		Maker:       func() home.Maker { return &Maker{} },
		Taker:       func() home.Taker { return &Taker{} },
		Commands:    func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewCommand(a)} },
		Documents:   verify.Documents(),
		KeyCommands: func(a *provider.House) []*cobra.Command { return []*cobra.Command{seal.NewCommand(a, entry().Has)} },
	}
}
