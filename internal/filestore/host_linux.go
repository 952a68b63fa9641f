package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// What the host knows of a chain and key since it was booted: a file for each, in
// folders of memory that no backup contains and that all signers of the host see.
// Whoever signs holds its lock, whatever its home, and writes each record to it once
// that is durable. It is evidence, never the state: a folder that is missing, full
// or not ours to write is done without.
//
// Behind the record stands the path of its state, filled up with zeros, for people: the
// other home that a message is about.

// HostFolders returns the folders for Config.Host of a program: $PRIVYSEAL_RUN
// alone if that is set, else /run/privyseal, systemd's $RUNTIME_DIRECTORY and
// /dev/shm.
func HostFolders() []string {
	if dir := os.Getenv("PRIVYSEAL_RUN"); dir != "" {
		return []string{dir}
	}
	all := []string{"/run/privyseal"}
	all = append(all, strings.FieldsFunc(os.Getenv("RUNTIME_DIRECTORY"), func(r rune) bool { return r == ':' })...)
	all = append(all, "/dev/shm")
	slices.Sort(all)
	return slices.Compact(all)
}

// hostName is the name of the file of a chain and key.
func hostName(id watermark.ID) string {
	sum := sha256.Sum256(append([]byte("privyseal host\x00"+id.ChainID+"\x00"), id.Key[:]...))
	return "privyseal-" + hex.EncodeToString(sum[:16]) + ".mark"
}

// hostFile is one of them, open and locked.
type hostFile struct {
	fd       int
	writable bool
	owner    uint32
	named    bool // the path in it is that of our state
}

// pathSize is how long a path is that is written down.
const pathSize = 512

// note writes a record of the state at path. A write that fails leaves an older record, which
// costs evidence and nothing else.
func (f *hostFile) note(sys *system, sector []byte, path string) {
	if !f.writable {
		return
	}
	sys.pwrite(f.fd, sector, 0)
	if !f.named {
		var b [pathSize]byte
		if abs, err := filepath.Abs(path); err == nil && len(abs) <= pathSize {
			copy(b[:], abs)
		}
		sys.pwrite(f.fd, b[:], recordSize)
		f.named = true
	}
}

// path returns the path that is written down, or "".
func (f *hostFile) path(sys *system) string {
	var b [pathSize]byte
	n, _ := sys.pread(f.fd, b[:], recordSize)
	path := strings.TrimRight(string(b[:max(n, 0)]), "\x00")
	if !filepath.IsAbs(path) || !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) {
		return ""
	}
	return path
}

// lockHost opens and locks the files of the host, or returns ErrTwin.
func (c *Config) lockHost(ctx context.Context, sys *system) (files []hostFile, err error) {
	for _, dir := range c.Host {
		f, ok := c.openHost(sys, dir)
		if !ok {
			continue
		}
		if err := sys.lock(ctx, f.fd, c.Wait); err != nil {
			unlockHost(sys, files)
			if errors.Is(err, ErrLocked) {
				path := shell.File(filepath.Join(dir, hostName(c.ID)))
				return nil, &fault{err: ErrTwin, detail: c.holder(sys), cure: "`fuser -v " + path + "` shows which process it is; end that `privyseal start`, of another home or a copy of this one, for good"}
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// holder names the state of who holds the lock, as far as it has said so.
func (c *Config) holder(sys *system) string {
	for _, r := range c.peekHost(sys, uint32(os.Geteuid())) {
		if r.path != "" {
			return shell.File(r.path)
		}
	}
	return ""
}

// openHost opens the file in dir, and makes it where it may.
func (c *Config) openHost(sys *system, dir string) (f hostFile, ok bool) {
	path := filepath.Join(dir, hostName(c.ID))
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := sys.open(path, unix.O_RDWR|flags, 0)
	f.writable = err == nil
	if err == unix.ENOENT {
		// Only the last folder of the path: what is above it is the system's.
		if err := sys.mkdir(dir, 0o755); err != nil && err != unix.EEXIST {
			return f, false
		}
		fd, err = sys.open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|flags, 0o644)
		if f.writable = err == nil; f.writable {
			// Whatever the umask: the lock has to be within reach of other users, who may
			// have a copy of the key.
			sys.chmod(fd, 0o644)
		}
	}
	if err != nil {
		fd, err = sys.open(path, unix.O_RDONLY|flags, 0)
	}
	if err != nil {
		return f, false
	}
	var st unix.Stat_t
	if err := sys.fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		sys.close(fd)
		return f, false
	}
	f.fd, f.owner = fd, st.Uid
	return f, true
}

// unlockHost gives the files up.
func unlockHost(sys *system, files []hostFile) {
	for _, f := range files {
		// As in Close: a child that is being forked holds the lock too.
		sys.flock(f.fd, unix.LOCK_UN)
		sys.close(f.fd)
	}
}

// readHost returns what the files say. Anybody may have made one in a folder that
// all may write to; of those only what root, we, or the owner of the state have
// made is believed.
func (c *Config) readHost(sys *system, files []hostFile, owner uint32) (known []record) {
	for i := range files {
		f := &files[i]
		if f.owner != 0 && f.owner != uint32(os.Geteuid()) && f.owner != owner {
			continue
		}
		var sector [recordSize]byte
		if n, err := sys.pread(f.fd, sector[:], 0); err != nil || n != recordSize {
			continue
		}
		if r, err := decode(sector[:], c.MACKey); err == nil && r.id == c.ID {
			r.path = f.path(sys)
			known = append(known, r)
		}
	}
	return known
}

// peekHost is readHost without a lock, for who only looks.
func (c *Config) peekHost(sys *system, owner uint32) []record {
	var files []hostFile
	for _, dir := range c.Host {
		fd, err := sys.open(filepath.Join(dir, hostName(c.ID)), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		defer sys.close(fd)
		var st unix.Stat_t
		if err := sys.fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			files = append(files, hostFile{fd: fd, owner: st.Uid})
		}
	}
	return c.readHost(sys, files, owner)
}

// Remembered returns the highest mark of a chain and key that the host knows since it was
// booted, also where the file is gone, or the zero mark.
func Remembered(c Config) (m watermark.Mark) {
	for _, r := range c.peekHost(kernel(), uint32(os.Geteuid())) {
		if m.Less(r.mark) {
			m = r.mark
		}
	}
	return m
}

// notBelowHost returns ErrBelow if the host knows a mark above m.
func (c *Config) notBelowHost(known []record, m watermark.Mark) error {
	for i := range known {
		k := &known[i]
		if !m.Less(k.mark) {
			continue
		}
		var names []string
		for _, dir := range c.Host {
			names = append(names, shell.File(filepath.Join(dir, hostName(c.ID))))
		}
		return &fault{
			err:    ErrBelow,
			detail: fmt.Sprintf("%v; since it was booted this host has signed up to %v with this key for chain %s, with %s", m, k.mark, c.ID.ChainID, k.with()),
			cure:   "use a mark that is not below; only after a reset of a test chain, which begins again under the same id, type `rm -f " + strings.Join(names, " ") + "` first",
		}
	}
	return nil
}
