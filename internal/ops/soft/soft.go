// Package soft is the provider whose keys are in files of the home folder, in plain text:
// whoever reads them has them. All of a key file is internal/key/soft; here is what the
// operator's commands want of it.
package soft

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// Holder is the provider whose keys are in files, in plain text.
type Holder struct{ provider.Files }

// Public implements [provider.Holder].
func (Holder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return provider.PublicOf(c.Path(ch.Key))
}

// Open implements [provider.Local].
func (Holder) Open(_ context.Context, c *config.Config, ch config.Chain) (provider.Key, error) {
	key, err := provider.OpenFile(c.Path(ch.Key))
	if err != nil {
		return nil, err
	}
	return key, nil
}
