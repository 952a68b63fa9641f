// Package durable writes small files whole: whatever ends the process or the power, there
// is the whole file at its path, or what was there before. When a function returns without
// an error, the file and its name are on disk.
//
// It is for files that are made or replaced as one: keys, configs, exports. The states of
// chains, which change with each signature, are internal/filestore's, and the note of an
// installation, which grows while it is made, is internal/home's. Folders are trusted:
// whoever may write there can do as they like.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The steps that make a file durable. Tests look on, and have them fail.
var (
	fsync = (*os.File).Sync
	link  = os.Link
)

// Create makes a file that is not there yet. If anything is at path, the error is an
// [fs.ErrExist], and nothing has changed. The umask applies to the mode.
//
// A crash leaves the whole file or none, and maybe a temporary one beside it, see [Sweep].
// After an error the file is there only if syncing the folder is what failed.
func Create(path string, data []byte, mode fs.FileMode) error {
	return CreateFrom(path, mode, func() ([]byte, error) { return data, nil })
}

// CreateFrom is Create for content that exists only once something else has ended: content
// is called when the folder is known to take a new file.
func CreateFrom(path string, mode fs.FileMode, content func() ([]byte, error)) error {
	if path != "" && os.IsPathSeparator(path[len(path)-1]) {
		return &fs.PathError{Op: "create", Path: path, Err: syscall.EISDIR}
	}
	path = filepath.Clean(path) // of "folder/." the temporary file would be in the folder
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	return put(path, func(temp string) error {
		if err := write(temp, mode, content); err != nil {
			return err
		}
		return name(temp, path)
	})
}

// Replace puts data in place of the file at path, if there is one. A crash leaves the old
// file or the new one. Mode and owner become those of like, 0600 and ours if it is nil.
func Replace(path string, data []byte, like fs.FileInfo) error {
	return put(path, func(temp string) error {
		if err := write(temp, 0o600, func() ([]byte, error) { return data, nil }); err != nil {
			return err
		}
		if like != nil {
			if err := give(temp, like); err != nil {
				return err
			}
		}
		return os.Rename(temp, path)
	})
}

// put has place put a temporary file beside path in its place, and makes that durable.
func put(path string, place func(temp string) error) error {
	temp := fmt.Sprintf("%s%s%08x", path, tempMark, rand.Uint32())
	err := place(temp)
	os.Remove(temp) // gone after a rename
	if err != nil {
		return of(path, err)
	}
	return SyncFolder(filepath.Dir(path))
}

// write makes a file whose content is on disk. Its name need not be.
func write(path string, mode fs.FileMode, content func() ([]byte, error)) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	data, err := content()
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = fsync(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// name gives the file temp the name path, which nothing may have: a rename would overwrite.
func name(temp, path string) error {
	err := link(temp, path)
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	// A file system without hard links, as on most memory sticks: an empty file holds the
	// name, and a crash may leave that.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Rename(temp, path)); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// give gives a file the mode and the owner of another one.
func give(path string, info fs.FileInfo) error {
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

// of says which file an error is about: nobody has heard of the temporary one.
func of(path string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(at.Path, path+tempMark) {
		return &fs.PathError{Op: at.Op, Path: path, Err: at.Err}
	}
	var from *os.LinkError
	if errors.As(err, &from) {
		return &fs.PathError{Op: "create", Path: path, Err: from.Err}
	}
	return err
}

// tempMark stands between a path and the eight digits of a temporary file's name.
const tempMark = ".new"

// Sweep removes the temporary files that crashes have left of a file at path. Nobody may
// write that file meanwhile.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), filepath.Base(path)+tempMark)
		if !ours || len(digits) != 8 || strings.Trim(digits, "0123456789abcdef") != "" {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Folders makes a folder and what is missing above it, mode 0700, each durable before the
// next. It returns those that it made, also beside an error.
func Folders(path string) (made []string, err error) {
	path = filepath.Clean(path) // of "new/" the parent is "new" otherwise
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, nil
	}
	if parent := filepath.Dir(path); parent != path {
		if made, err = Folders(parent); err != nil {
			return made, err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return made, err
	}
	return append(made, path), SyncFolder(filepath.Dir(path))
}

// SyncFolder makes durable which names are in a folder. Without it a power cut can take a
// file away whose bytes are on disk.
func SyncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = fsync(dir)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}
