package main

import (
	"privyseal/internal/cli"
	"privyseal/internal/home"
	"privyseal/internal/ops/nitro"
	"privyseal/internal/ops/soft"
	opsvault "privyseal/internal/ops/vault"
	"privyseal/internal/provider"
)

// providers are those of this build: a line adds one.
var providers = provider.Table{
	{Name: "soft", Where: "a file", Imported: "the key in plain text", Holder: soft.Holder{}},
	{Name: "nitro", Where: "an AWS Nitro Enclave", Unit: "privyseal-nitro", Kind: nitro.Kind(), Form: "wrapped",
		Writer:   "an enclave",
		Imported: "a ciphertext of the key, which opens without its chain being named", Holder: nitro.Holder{}},
	{Name: "vault", Where: "a HashiCorp Vault or OpenBao server", Imported: "the key in plain text", Kind: opsvault.Kind(), Holder: opsvault.Holder{}},
}

// makers are the parts of `privyseal init` that are a provider's own.
func makers() map[string]home.Maker {
	return map[string]home.Maker{"soft": soft.Maker{}, "nitro": &nitro.Maker{}, "vault": &opsvault.Init{}}
}

// newHouse returns what the commands are given; home is "" for that of the environment.
func newHouse(home string) *provider.House {
	return &provider.House{App: &cli.App{HomeFlag: home, Kinds: providers.Kinds()}, Providers: providers}
}

// takers are the parts of `privyseal migrate` that are a provider's own.
func takers() []home.Taker { return []home.Taker{&nitro.Taker{}} }
