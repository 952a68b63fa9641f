// Package regular reads files whose paths people give: whole, up to a size, and never
// waiting for what is not a file. What is said about a file is said about the very one that
// is read.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"privyseal/internal/cure"
)

// Open opens the regular file that path leads to, also by symbolic links.
func Open(path string) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK, or opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errIrregular}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

var errIrregular = errors.New("it is not a regular file")

// Read returns the content of the regular file that path leads to. More than limit bytes
// are an error, an [fs.PathError] as all of them are.
func Read(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has more than %d bytes", limit)}
	}
	data := make([]byte, info.Size()+1) // growing would leave copies of a secret behind
	n, err := io.ReadFull(f, data)
	if int64(n) != info.Size() || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(data)
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it changed while it was read")}
	}
	return data[:n], info, nil
}

// ReadOurs is Read for a file that decides what is signed with: nobody but its owner may
// write it.
func ReadOurs(path string, limit int64) ([]byte, fs.FileInfo, error) {
	data, info, err := Read(path, limit)
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = cure.Add(fmt.Errorf("%s may be written by others (mode %#o)", path, info.Mode().Perm()), "%s", cure.Command("chmod", "go-w", path))
	}
	if err != nil {
		return nil, nil, err
	}
	return data, info, nil
}

// ReadSecret is Read for a file with a secret of ours, which is what, as in "key file". It
// belongs to this process's user or to root, and has a mode of 0600 or stricter; below the
// folder credentials, if that is not "", its group may read it too (systemd's
// $CREDENTIALS_DIRECTORY has 0440). The caller clears the bytes. A missing file is an
// [fs.ErrNotExist].
func ReadSecret(what, path, credentials string, limit int64) ([]byte, error) {
	allowed := fs.FileMode(0o600)
	if below(path, credentials) {
		allowed = 0o640
	}
	data, info, err := readPrivate(what, path, allowed, limit)
	if err != nil {
		return nil, err
	}
	if uid, ok := owner(info); !ok || uid != os.Geteuid() && uid != 0 {
		clear(data)
		return nil, cure.Add(fmt.Errorf("the %s %s belongs to user %d, not to the one that runs privyseal, %d", what, path, uid, os.Geteuid()),
			"as root type %s", cure.Command("chown", strconv.Itoa(os.Geteuid()), path))
	}
	return data, nil
}

// ReadPrivate is ReadSecret for a file of another program: it may belong to anybody, and
// has a mode of 0600 or stricter wherever it is.
func ReadPrivate(what, path string, limit int64) ([]byte, error) {
	data, _, err := readPrivate(what, path, 0o600, limit)
	return data, err
}

func readPrivate(what, path string, allowed fs.FileMode, limit int64) ([]byte, fs.FileInfo, error) {
	data, info, err := Read(path, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the %s %s: %w", what, path, Reason(err))
	}
	if perm := info.Mode().Perm(); perm&^allowed != 0 {
		clear(data)
		return nil, nil, cure.Add(fmt.Errorf("the %s %s has mode %04o, so that others may have read it", what, path, perm), "%s", cure.Command("chmod", "600", path))
	}
	return data, info, nil
}

// Reason returns err without the path, for a text that has it already.
func Reason(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func owner(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, false
	}
	return int(stat.Uid), true
}

// below reports whether path leads to a file in the folder dir or below it.
func below(path, dir string) bool {
	if dir == "" {
		return false
	}
	path, err1 := filepath.EvalSymlinks(path)
	dir, err2 := filepath.EvalSymlinks(dir)
	rel, err3 := filepath.Rel(dir, path)
	return errors.Join(err1, err2, err3) == nil && filepath.IsLocal(rel)
}
