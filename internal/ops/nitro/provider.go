package nitro

import (
	"slices"

	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/nitro/verify"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// entry is what all commands want of the provider.
func entry() provider.Entry {
	return provider.Entry{
		Name: providerName, Where: "an AWS Nitro Enclave", Unit: "privyseal-nitro", Form: "wrapped", Writer: "an enclave",
		Imported: "a ciphertext of the key, which opens without its chain being named", Kind: Kind(), Holder: Holder{},
		Types:   slices.DeleteFunc(pubkey.Types(), func(t pubkey.Type) bool { return !pubkey.SignsInConstantTime(t) }),
		NoOther: "how long those take to sign depends on the secret, and the host can measure that",
	}
}

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry:       entry(),
		Maker:       func() home.Maker { return &Maker{} },
		Taker:       func() home.Taker { return &Taker{} },
		Commands:    func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewCommand(a), verify.NewCommand()} },
		KeyCommands: func(a *provider.House) []*cobra.Command { return []*cobra.Command{NewSeal(a)} },
	}
}
