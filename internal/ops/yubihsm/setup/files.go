package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/durable"
	"privyseal/internal/key/yubihsm/provision"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
)

// passwordFiles are the files of the roles that have a password file, by name.
var passwordFiles = []struct {
	id   uint16
	role string
}{{provision.Operator, "operator"}, {provision.Auditor, "auditor"}, {provision.Validator, "validator"}}

// passwordFile returns the path of a role's file.
func (s *setting) passwordFile(role string) string { return filepath.Join(s.dir, role+"-password") }

// room refuses a folder in which the files cannot be made. Files of the same words may be
// there; w has none for words that are still to be made.
func (s *setting) room(w words.Words) error {
	for _, f := range passwordFiles {
		if _, err := s.missing(f.role, w); err != nil {
			return err
		}
	}
	// What is missing above the folder is made, too.
	dir := filepath.Clean(s.dir)
	info, err := os.Stat(dir)
	for err != nil && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "write", Path: dir, Err: unix.ENOTDIR}
	}
	if err == nil {
		if err = unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			err = &fs.PathError{Op: "write", Path: dir, Err: err}
		}
	}
	if err != nil {
		return cure.Add(cli.Usagef("the passwords cannot be written: %w", err), "name another folder with --password-dir")
	}
	return nil
}

// missing returns the content of a role's file that is still to be made; nil if it is there.
// One that has something else in it is an error.
func (s *setting) missing(role string, w words.Words) ([]byte, error) {
	path := s.passwordFile(role)
	password, err := w.Password(role)
	isNew := errors.Is(err, words.ErrNone)
	if err != nil && !isNew {
		return nil, err
	}
	text := make([]byte, len(password)+1) // append would leave another copy behind
	copy(text, password)
	text[len(password)] = '\n'
	clear(password)
	if _, err := os.Lstat(path); err != nil {
		return text, nil
	}
	was, err := regular.ReadSecret("password file", path, provider.Credentials(), maxPassword)
	same := err == nil && !isNew && bytes.Equal(was, text)
	clear(was)
	clear(text)
	if same {
		return nil, nil
	}
	return nil, cure.Add(cli.Usagef("%s already exists, and nothing is overwritten", path), "move it away, or name another folder with --password-dir")
}

// maxPassword bounds a file with a password that is there already, in bytes.
const maxPassword = 1024

// write writes the files that are missing.
func (s *setting) write(w words.Words) error {
	if _, err := durable.Folders(s.dir); err != nil {
		return err
	}
	for _, f := range passwordFiles {
		text, err := s.missing(f.role, w)
		if err != nil {
			return err
		}
		if text == nil {
			continue
		}
		err = cli.WriteNew(s.passwordFile(f.role), text, 0o600)
		clear(text)
		if err != nil {
			return fmt.Errorf("cannot write a password: %w", err)
		}
	}
	return nil
}
