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
	"sync"
	"syscall"
)

// The steps that make a file durable. Tests look on, and have them fail.
var (
	fsync    = (*os.File).Sync
	link     = linkFile
	nameless = openNameless
)

// Create makes a file that is not there yet. If anything is at path, the error is an
// [fs.ErrExist], and nothing has changed. The umask applies to the mode.
//
// A crash leaves the whole file or nothing; where every file needs a name from the
// beginning (systems other than Linux, and most memory sticks), maybe a temporary one
// beside it, see [Sweep]. After an error the file is there only if syncing what was whole
// already, file or folder, is what failed.
func Create(path string, data []byte, mode fs.FileMode) error {
	return CreateFrom(path, mode, func() ([]byte, error) { return data, nil })
}

// CreateFrom is Create for content that exists only once something else has ended: content
// is called when the folder is known to take a new file, and once.
func CreateFrom(path string, mode fs.FileMode, content func() ([]byte, error)) error {
	if path != "" && os.IsPathSeparator(path[len(path)-1]) {
		return &fs.PathError{Op: "create", Path: path, Err: syscall.EISDIR}
	}
	path = filepath.Clean(path) // of "folder/." the temporary file would be in the folder
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
	}
	return put(path, mode, nil, content, (*draft).add)
}

// Replace puts data in place of the file at path, if there is one. A crash leaves the old
// file or the new one, and in the worst case a temporary one too, see [Sweep]. Mode and
// owner become those of like, 0600 and ours if it is nil.
func Replace(path string, data []byte, like fs.FileInfo) error {
	return put(path, 0o600, like, func() ([]byte, error) { return data, nil }, (*draft).replace)
}

// draft is a file on its way to path. It gets a name when it is whole, so that a crash
// before that leaves nothing. Where that is not possible, it has a temporary one.
type draft struct {
	*os.File
	path string
	temp string // the temporary name
	at   string // what leads to it: temp, or a link in /proc
}

// errNameless says that no file can be made without a name, or be given one later.
var errNameless = errors.New("files need a name here")

// open opens the draft with a temporary name, or without one.
func (d *draft) open(mode fs.FileMode, named bool) (err error) {
	if named {
		d.at = d.temp
		d.File, err = os.OpenFile(d.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		return err
	}
	if d.File, d.at, err = nameless(filepath.Dir(d.path), mode); err != nil {
		return errNameless // if it is about the folder, one with a name meets it too
	}
	return nil
}

// put writes a draft, has place give it its name, and makes both durable.
func put(path string, mode fs.FileMode, like fs.FileInfo, content func() ([]byte, error), place func(*draft) error) error {
	content = sync.OnceValues(content)
	try := func(named bool) error {
		d := &draft{path: path, temp: fmt.Sprintf("%s%s%08x", path, tempMark, rand.Uint32())}
		if err := d.open(mode, named); err != nil {
			return err
		}
		defer os.Remove(d.temp) // gone after a rename
		defer d.Close()
		if err := d.write(content, like); err != nil {
			return err
		}
		return place(d)
	}
	err := try(false)
	if errors.Is(err, errNameless) {
		err = try(true)
	}
	if err != nil {
		return of(path, err)
	}
	return SyncFolder(filepath.Dir(path))
}

// write returns when content, mode and owner are on disk.
func (d *draft) write(content func() ([]byte, error), like fs.FileInfo) error {
	data, err := content()
	if err == nil {
		_, err = d.Write(data)
	}
	if err == nil && like != nil {
		err = d.give(like)
	}
	if err == nil {
		err = fsync(d.File)
	}
	return err
}

// give gives the draft the mode and the owner of another file.
func (d *draft) give(like fs.FileInfo) error {
	if err := d.Chmod(like.Mode().Perm()); err != nil {
		return err
	}
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return d.Chown(int(owner.Uid), int(owner.Gid))
}

// add gives the draft its name, which nothing may have: a rename would overwrite.
func (d *draft) add() error {
	err := link(d.at, d.path)
	switch {
	case err == nil:
		return d.linked()
	case errors.Is(err, fs.ErrExist):
		return err
	case d.at != d.temp:
		return errNameless
	case !errors.Is(err, syscall.EPERM) && !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	// A file system without hard links, as on most memory sticks: an empty file holds the
	// name, and a crash may leave that.
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), os.Rename(d.temp, d.path)); err != nil {
		os.Remove(d.path)
		return err
	}
	return nil
}

// replace gives the draft its name, whatever has had it. A file without one cannot take
// the place of another: it has the temporary one between two system calls.
func (d *draft) replace() error {
	if d.at != d.temp && link(d.at, d.temp) != nil {
		return errNameless
	}
	if err := os.Rename(d.temp, d.path); err != nil {
		return err
	}
	return d.linked()
}

// linked makes durable that a draft without a name has one. What has no name is gone after
// a power cut, and not every file system takes the sync of its folder for that of the file.
func (d *draft) linked() error {
	if d.at == d.temp {
		return nil
	}
	return fsync(d.File)
}

// of says which file an error is about: nobody has heard of the temporary one, and one
// without a name is called as its folder.
func of(path string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && (strings.HasPrefix(at.Path, path+tempMark) || at.Path == filepath.Dir(path)) {
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
