package nitro

import (
	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: provider.Entry{
			Name: providerName, Where: "an AWS Nitro Enclave", Unit: "privyseal-nitro", Form: "wrapped", Writer: "an enclave",
			Imported: "a ciphertext of the key, which opens without its chain being named", Kind: Kind(), Holder: Holder{},
		},
		Maker:       func() home.Maker { return &Maker{} },
		Taker:       func() home.Taker { return &Taker{} },
		Commands:    func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewCommand(a), verify.NewCommand()} },
		KeyCommands: func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewSeal(a)} },
	}
}
