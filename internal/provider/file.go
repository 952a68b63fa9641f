package provider

import (
	"os"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/pubkey"
)

// Credentials returns the folder in which systemd puts the files of LoadCredential=, or
// "" without one. Looser modes are allowed there.
func Credentials() string { return os.Getenv("CREDENTIALS_DIRECTORY") }

// OpenFile opens a key file of ours. A failure waits for an operator.
func OpenFile(path string) (*soft.Key, error) {
	key, err := keyfile.Open(path, Credentials())
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
