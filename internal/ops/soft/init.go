package soft

import (
	"cmp"
	"path/filepath"

	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/pubkey"
)

// readKey makes the key, or reads the one to import.
func readKey(o *home.Order, _ *home.Installer, ch *home.Chain) error {
	if o.ImportKey == "" {
		key, err := soft.Generate(cmp.Or(o.KeyType, pubkey.Ed25519))
		ch.SoftKey = key
		return err
	}
	source, err := filepath.Abs(o.ImportKey)
	if err != nil {
		return err
	}
	ch.ImportedFrom = []string{source}
	ch.SoftKey, err = keyfile.ReadForeign(o.ImportKey, o.KeyType)
	return err
}
