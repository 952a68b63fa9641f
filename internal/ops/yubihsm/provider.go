// Package yubihsm is the provider whose keys YubiHSM 2 devices sign with: what the operator
// has of it.
package yubihsm

import (
	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/verify"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Provider is a line of the table of a build.
func Provider() home.Provider {
	return home.Provider{
		Entry: provider.Entry{
			Name: reach.Table, Where: "a YubiHSM 2", Imported: "the key in plain text", Types: []pubkey.Type{pubkey.Ed25519, pubkey.Secp256k1},
			Kind: reach.Kind(), Holder: &Holder{},
			AtHome: []string{"yubihsm list", "yubihsm test", "yubihsm generate", "yubihsm import", "yubihsm attest", "yubihsm export", "yubihsm restore", "yubihsm clone", "yubihsm audit"},
		},
		Documents: verify.Documents(),
		Maker:     func() home.Maker { return &Init{} },
		Taker:     func() home.Taker { return &Taker{} },
		MigrateHelp: home.Help{Text: `Keys that tmkms uses on a YubiHSM stay there: only their public keys are read now, so
the device has to be reachable. Chains in files and on the device move at once.`},
		Commands: func(a *provider.House) []*cobra.Command { return []*cobra.Command{newCommand(a)} },
	}
}
