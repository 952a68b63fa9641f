package soft

import (
	"path/filepath"

	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/pubkey"
)

// readKey makes the key, or reads the one to import.
func readKey(o *home.Order, _ *home.Installer, ch *home.Chain) error {
	t, err := o.KeyType.Parse()
	if err != nil {
		return err
	}
	if o.ImportKey == "" {
		if t == "" {
			t = pubkey.Ed25519
		}
		ch.SoftKey, err = soft.Generate(t)
		return err
	}
	source, err := filepath.Abs(o.ImportKey)
	if err != nil {
		return err
	}
	ch.ImportedFrom = []string{source}
	ch.SoftKey, err = keyfile.ReadForeign(o.ImportKey, t)
	return err
}
