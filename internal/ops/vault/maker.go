package vault

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/key/vault"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Add implements [home.Maker].
func (f *Init) Add(cmd *cobra.Command) { f.flags(cmd.Flags()) }

// Check implements [home.Maker].
func (f *Init) Check(o *home.Order) error {
	if err := f.check(o.ImportKey); err != nil {
		return err
	}
	o.Taken = f.take
	return o.CheckState()
}

// Make implements [home.Maker]. A key is made or imported at last, when nothing here
// refuses it any more; one that is taken is looked at first, and only looked at.
func (f *Init) Make(cmd *cobra.Command, a *provider.House, o *home.Order) error {
	var secret *soft.Key
	var findings []vault.Finding
	err := o.Install(cmd, a, func(in *home.Installer, ch *home.Chain) error {
		server, tables, err := f.server.In(in.Config)
		if err != nil {
			return err
		}
		ch.Table, ch.Key, ch.Tables = f.server.Name, "keys/"+ch.Name+".vault", tables
		if o.ImportKey != "" {
			if secret, err = readKey(o.ImportKey, ch); err != nil {
				return err
			}
		}
		hold := func() error {
			r, found, err := f.hold(cmd.Context(), server.client(in.Abs), ch.Name, secret)
			findings, ch.Public, ch.Files = found, r.Public, []home.File{{Path: ch.Key, Data: r.Encode()}}
			return err
		}
		if f.take {
			return hold()
		}
		ch.Make = hold
		return nil
	})
	if secret != nil {
		secret.Wipe()
	}
	for _, finding := range findings {
		fmt.Fprintln(cmd.ErrOrStderr(), "note: "+finding.What)
	}
	return err
}

// readKey reads the key to import.
func readKey(path string, ch *home.Chain) (*soft.Key, error) {
	source, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	secret, err := keyfile.ReadForeign(path, pubkey.Ed25519)
	if err != nil {
		return nil, err
	}
	ch.ImportedFrom, ch.Public = []string{source}, secret.PublicKey()
	return secret, nil
}
