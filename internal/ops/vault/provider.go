package vault

import (
	"privyseal/internal/home"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: provider.Entry{
			Name: "vault", Where: "a HashiCorp Vault or OpenBao server", Imported: "the key in plain text", Types: []pubkey.Type{pubkey.Ed25519},
			Kind: Kind(), Holder: Holder{},
		},
		Maker: func() home.Maker { return &Init{} },
	}
}
