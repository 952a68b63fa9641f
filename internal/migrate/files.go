package migrate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"privyseal/internal/key/soft"
	"privyseal/internal/pubkey"
)

// maxConfigSize bounds in bytes what is read as a config file.
const maxConfigSize = 1 << 20

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, info, nil
}

// readKey reads the key file of another signer.
func readKey(path string, as pubkey.Type) (*soft.Key, error) {
	k, err := soft.ReadForeign(path, as)
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
