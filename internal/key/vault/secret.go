package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"privyseal/internal/cure"
)

// maxSecret bounds in bytes a token or secret id. Vault's batch tokens have some hundred.
const maxSecret = 4096

// readSecret returns the one line of a file that only its owner may read: a regular
// one, or a link to it, that belongs to this process's user or to root. Below the
// folder credentials its group may read it too.
func readSecret(path, credentials string) (string, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w", err)
	}
	allowed := fs.FileMode(0o600)
	if isBelow(path, credentials) {
		allowed = 0o640
	}
	if err := checkFile(path, info, allowed); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+3))
	if err != nil {
		return "", fmt.Errorf("cannot read a secret: %w", err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if !isSecretText(string(text)) {
		return "", fmt.Errorf("the file %s holds no token or secret id: that is one line of letters, digits and signs, and nothing else", path)
	}
	return string(text), nil
}

func checkFile(path string, info fs.FileInfo, allowed fs.FileMode) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("the file %s with a secret is not a regular file", path)
	case info.Mode().Perm()&^allowed != 0:
		return cure.Add(fmt.Errorf("the file %s with a secret has mode %04o, so that others may have read it", path, info.Mode().Perm()), "%s", cure.Command("chmod", "600", path))
	case !ok || int(stat.Uid) != os.Geteuid() && stat.Uid != 0:
		return fmt.Errorf("the file %s with a secret belongs to another user", path)
	}
	return nil
}

// isSecretText reports whether s can stand in a header: printable ASCII without spaces.
func isSecretText(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxSecret
}

// isBelow reports whether path leads to a file in the folder dir or below it.
func isBelow(path, dir string) bool {
	if dir == "" {
		return false
	}
	path, err1 := filepath.EvalSymlinks(path)
	dir, err2 := filepath.EvalSymlinks(dir)
	rel, err3 := filepath.Rel(dir, path)
	return errors.Join(err1, err2, err3) == nil && filepath.IsLocal(rel)
}
