package main

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
)

// softHolder is the provider whose keys are in files, in plain text.
type softHolder struct{ provider.Files }

// Public implements [provider.Holder].
func (softHolder) Public(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return provider.PublicOf(c.Path(ch.Key))
}

// Open implements [provider.Local].
func (softHolder) Open(_ context.Context, c *config.Config, ch config.Chain) (provider.Key, error) {
	key, err := provider.OpenFile(c.Path(ch.Key))
	if err != nil {
		return nil, err
	}
	return key, nil
}
