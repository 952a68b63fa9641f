package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/durable"
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

// CreateFile writes a key to a new key file of mode 0600, and returns when that is on disk.
// Missing folders are made. Nothing is overwritten: [fs.ErrExist].
func CreateFile(path string, key *soft.Key) error {
	path = filepath.Clean(path)
	if _, err := durable.Folders(filepath.Dir(path)); err != nil {
		return fmt.Errorf("cannot make the folder of the key file: %w", err)
	}
	data := key.Encode()
	defer clear(data)
	err := durable.Create(path, data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write the key file %s, and keys are never overwritten: %w", path, fs.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("cannot write the key file: %w", err)
	}
	return nil
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
