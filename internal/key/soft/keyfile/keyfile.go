// Package keyfile keeps keys in files: it writes and reads ours, which nobody else may read,
// and reads those of other signers. What is in them is the business of package soft.
package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
	"privyseal/internal/regular"
)

// Open reads the key file at path. The file has to be a regular one (a
// symbolic link may lead to it) that belongs to this process's user or to root,
// with a mode of 0600 or stricter; below the folder credentials, if that is not
// empty, 0440 is good too (systemd's $CREDENTIALS_DIRECTORY). A missing file is
// an [fs.ErrNotExist].
func Open(path, credentials string) (*soft.Key, error) {
	data, err := regular.ReadSecret("key file", path, credentials, soft.MaxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cure.Add(err, "put it back from its backup, with mode 0600; a new key would be another validator's")
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	k, err := soft.Decode(data)
	if other := regular.OfAnother(data, soft.FirstLine); other != nil {
		return nil, fmt.Errorf("cannot read the key file %s: %w", path, other)
	}
	if errors.Is(err, soft.ErrFormat) {
		return nil, cure.Add(fmt.Errorf("cannot read the key file %s: %w", path, err), "another signer's key file is read by %s", cure.Command("privyseal", "key", "import", path, "--out", "FILE"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key file %s: %w", path, err)
	}
	return k, nil
}

// Create writes a key to a new key file of mode 0600, and returns when that is on disk.
// Missing folders are made. Nothing is overwritten: [fs.ErrExist].
func Create(path string, key *soft.Key) error {
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

// IsMade reports whether the key file at path holds the key of a public key, or is torn.
// The zero key is no key: then only a torn file counts.
func IsMade(path string, public pubkey.Key) bool {
	if k, err := Open(path, ""); err == nil {
		defer k.Wipe()
		return !public.IsZero() && k.PublicKey().Equal(public)
	}
	data, _, err := regular.Read(path, soft.MaxFileSize)
	defer clear(data)
	return err == nil && soft.Torn(data)
}

// ReadForeign reads the key file of another signer, as [soft.Import] does. The
// file's mode has to be 0600 or stricter; it may belong to anybody.
func ReadForeign(path string, as pubkey.Type) (*soft.Key, error) {
	data, err := regular.ReadPrivate("key file", path, soft.MaxFileSize)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	k, err := soft.Import(data, as)
	if err != nil {
		return nil, fmt.Errorf("cannot import the key file %s: %w", path, err)
	}
	return k, nil
}
