package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/pubkey"
)

// maxConfigSize bounds in bytes what is read as a config file.
const maxConfigSize = 1 << 20

// readKey reads the key file of another signer.
func readKey(path string, as pubkey.Type) (*soft.Key, error) {
	k, err := keyfile.ReadForeign(path, as)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; if the config names it by a path relative to some other folder, write the whole path there", err)
	}
	return k, err
}

// resolve returns the path p of a config file in dir.
func resolve(dir, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

// fileIn returns path, or the file name in it if it is a folder.
func fileIn(path, name string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, name)
	}
	return path
}
