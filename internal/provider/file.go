package provider

import (
	"os"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// OpenFile opens a key file of ours. Looser modes are allowed below systemd's folder of
// credentials. A failure waits for an operator.
func OpenFile(path string) (*soft.Key, error) {
	key, err := soft.Open(path, os.Getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return nil, cli.Act(err)
	}
	return key, nil
}

// Files is the part of a [Local] that all of them share: identities in key files.
type Files struct{}

// Identity implements [Holder].
func (Files) Identity(c *config.Config, ch config.Chain) (pubkey.Key, error) {
	return PublicOf(c.Path(ch.Identity))
}

// PublicOf returns the public half of a key file of ours.
func PublicOf(path string) (pubkey.Key, error) {
	key, err := OpenFile(path)
	if err != nil {
		return pubkey.Key{}, err
	}
	defer key.Wipe()
	return key.PublicKey(), nil
}
