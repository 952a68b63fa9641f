package soft

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"privyseal/internal/home"
	"privyseal/internal/key/soft"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Maker makes keys in files.
type Maker struct{}

// Add implements [Maker].
func (Maker) Add(*cobra.Command) {}

// Check implements [Maker].
func (Maker) Check(o *home.Order) error { return o.CheckState() }

// Make implements [Maker].
func (Maker) Make(cmd *cobra.Command, a *provider.House, o *home.Order) error {
	return o.Install(cmd, a, func(_ *home.Installer, ch *home.Chain) error { return readKey(o, ch) })
}

// readKey makes the key, or reads the one to import.
func readKey(o *home.Order, ch *home.Chain) error {
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
	ch.SoftKey, err = soft.ReadForeign(o.ImportKey, t)
	return err
}
