package lightsgx

import (
	"errors"
	"fmt"

	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/regular"
)

// Files are paths: the backup of a key, and its key, or else the key in the form that is
// encrypted to a wrap key, with the private half of that.
type Files struct{ Backup, Key, External, WrapKey string }

// Open opens the backup.
func (f Files) Open() (*soft.Key, error) {
	if f.Backup == "" {
		return nil, cure.Add(errors.New("this is tmkms-light in SGX: its key is sealed to that enclave on that CPU, which nobody else opens"),
			"add --sgx-backup consensus-key.backup, with the key of the backup that the cloud's HSM holds: --sgx-backup-key FILE; without a backup, make a new key with `privyseal init` and have the chain exchange it")
	}
	file, _, err := regular.Read(f.Backup, MaxSize)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backup: %w", err)
	}
	parsed, err := ParseBackup(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Backup, err)
	}
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	k, err := parsed.Open(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Backup, err)
	}
	return k, nil
}

// key returns the key of the backup, from the one or the other.
func (f Files) key() ([]byte, error) {
	read := func(what, path string) ([]byte, error) {
		data, err := regular.ReadPrivate(what, path, MaxSize)
		return data, err
	}
	switch plain, wrapped := f.Key != "", f.External != "" && f.WrapKey != ""; {
	case plain && f.External == "" && f.WrapKey == "":
		data, err := read("key of the backup", f.Key)
		if err != nil {
			return nil, err
		}
		key, err := ParseKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Key, err)
		}
		return key, nil
	case wrapped && !plain:
		external, _, err := regular.Read(f.External, MaxSize)
		if err != nil {
			return nil, fmt.Errorf("cannot read the external key: %w", err)
		}
		private, err := read("wrap key", f.WrapKey)
		if err != nil {
			return nil, err
		}
		defer clear(private)
		return UnwrapKey(external, private)
	}
	return nil, errors.New("a backup opens with --sgx-backup-key alone, or with --sgx-external-key and --sgx-wrap-key together")
}
