package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/shell"
)

// system is all that the store asks of the operating system. Tests put failing
// and recording ones in its place.
type system struct {
	open      func(path string, flags int, mode uint32) (fd int, err error)
	flock     func(fd, how int) error
	fstat     func(fd int, st *unix.Stat_t) error
	lstat     func(path string, st *unix.Stat_t) error
	fstatfs   func(fd int, st *unix.Statfs_t) error
	handle    func(fd int) (kind int32, handle []byte, err error)
	pread     func(fd int, p []byte, off int64) (int, error)
	pwrite    func(fd int, p []byte, off int64) (int, error)
	fdatasync func(fd int) error
	fsync     func(fd int) error
	link      func(fd int, path string) error
	rename    func(from, to string) error
	unlink    func(path string) error
	chmod     func(fd int, mode uint32) error
	mkdir     func(path string, mode uint32) error
	close     func(fd int) error
	machineID func() ([]byte, error)
	now       func() time.Time
}

// kernel returns the real system. Calls that a signal has interrupted are made
// again, as package os does.
func kernel() *system {
	return &system{
		open: func(path string, flags int, mode uint32) (fd int, err error) {
			err = again(func() error { fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode); return err })
			return fd, err
		},
		flock:   func(fd, how int) error { return again(func() error { return unix.Flock(fd, how) }) },
		fstat:   func(fd int, st *unix.Stat_t) error { return again(func() error { return unix.Fstat(fd, st) }) },
		lstat:   lstat,
		fstatfs: func(fd int, st *unix.Statfs_t) error { return again(func() error { return unix.Fstatfs(fd, st) }) },
		handle: func(fd int) (int32, []byte, error) {
			h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
			if err != nil {
				return 0, nil, err // there is no handle to ask
			}
			return h.Type(), h.Bytes(), nil
		},
		pread: func(fd int, p []byte, off int64) (n int, err error) {
			err = again(func() error { n, err = unix.Pread(fd, p, off); return err })
			return n, err
		},
		pwrite: func(fd int, p []byte, off int64) (n int, err error) {
			err = again(func() error { n, err = unix.Pwrite(fd, p, off); return err })
			return n, err
		},
		fdatasync: func(fd int) error { return again(func() error { return unix.Fdatasync(fd) }) },
		fsync:     func(fd int) error { return again(func() error { return unix.Fsync(fd) }) },
		link: func(fd int, path string) error {
			return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		},
		rename:    unix.Rename,
		unlink:    unix.Unlink,
		chmod:     unix.Fchmod,
		mkdir:     unix.Mkdir,
		close:     unix.Close, // never again: the descriptor is gone even then
		machineID: func() ([]byte, error) { return os.ReadFile("/etc/machine-id") },
		now:       time.Now,
	}
}

// lstat fills device, inode, type and link count of st, and nothing else. It must
// not ask for times: since Linux 6.13 (multigrain timestamps) a file whose times
// were asked for has its inode written with the next sync, which makes a mark half
// as expensive again.
func lstat(path string, st *unix.Stat_t) error {
	var x unix.Statx_t
	const want = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_NLINK
	err := again(func() error { return unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, want, &x) })
	if err == nil && x.Mask&want != want {
		err = unix.ENOTSUP
	}
	*st = unix.Stat_t{Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino, Mode: uint32(x.Mode)}
	st.Nlink = nlink(x.Nlink)
	return err
}

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// bindingOf returns what records of the open file fd are bound to.
func (sys *system) bindingOf(fd int) (b binding, err error) {
	id, err := sys.machineID()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, fmt.Errorf("cannot identify the machine: %w", err)
	}
	// systemd writes "uninitialized" during the first boot of an image.
	if s := string(id); s != "" && s != "\n" && s != "uninitialized\n" {
		sum := sha256.Sum256([]byte("privyseal machine\x00" + s))
		b.machine = [16]byte(sum[:])
	}
	if b.file, err = sys.fileID(fd); err != nil {
		return b, err
	}
	var st unix.Stat_t
	if err := sys.fstat(fd, &st); err != nil {
		return b, err
	}
	b.inode = st.Ino
	return b, nil
}

// fileID returns the name that the open file has for as long as it exists.
func (sys *system) fileID(fd int) (fileID, error) {
	kind, handle, err := sys.handle(fd)
	switch err {
	case nil:
	case unix.EPERM, unix.EACCES, unix.ENOSYS:
		return fileID{}, &fault{
			err:    ErrUnsafe,
			detail: fmt.Sprintf("the kernel does not say which file it is (name_to_handle_at: %v), so a copy could not be distinguished from it", err),
			cure:   "allow the system call name_to_handle_at in the seccomp profile of the container or unit",
		}
	case unix.EOPNOTSUPP:
		return fileID{}, &fault{err: ErrUnsafe, detail: "its file system does not say which file it is (name_to_handle_at), so a copy could not be distinguished from it", cure: localDisk}
	default:
		return fileID{}, fmt.Errorf("cannot get the handle of the file: %w", err)
	}
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(kind)), handle...))
	return fileID(sum[:16]), nil
}

// diskName names the file system of a statfs(2) type, and says whether it may
// hold state: whether it keeps what fdatasync has confirmed, and hands out
// handles that outlive a boot. The names of the others refuse nothing more.
func diskName(kind int64) (name string, ok bool) {
	switch kind {
	case unix.EXT4_SUPER_MAGIC: // ext2 and ext3 have the same number
		return "ext4", true
	case unix.XFS_SUPER_MAGIC:
		return "xfs", true
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", true
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs", true
	case 0x2fc12fc1:
		return "zfs", true
	case 0xca451a4e:
		return "bcachefs", true
	case unix.TMPFS_MAGIC:
		return "tmpfs", false
	case unix.RAMFS_MAGIC:
		return "ramfs", false
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay", false
	case unix.NFS_SUPER_MAGIC:
		return "nfs", false
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "cifs", false
	case unix.CEPH_SUPER_MAGIC:
		return "ceph", false
	case unix.FUSE_SUPER_MAGIC:
		return "fuse", false
	case unix.V9FS_MAGIC:
		return "9p", false
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat", false
	case unix.ECRYPTFS_SUPER_MAGIC:
		return "ecryptfs", false
	}
	return fmt.Sprintf("type %#x", kind), false
}

// filesystem returns the name of the file system that fd is on, and whether it
// may hold state.
func (sys *system) filesystem(fd int) (name string, ok bool, err error) {
	var st unix.Statfs_t
	if err := sys.fstatfs(fd, &st); err != nil {
		return "", false, err
	}
	// The type is signed on some platforms, and then negative for some.
	name, ok = diskName(int64(uint32(st.Type)))
	return name, ok, nil
}

const localDisk = "keep it on a local disk (ext4, xfs, btrfs, f2fs, zfs or bcachefs): key `state` in the config"

// checkDisk refuses file systems that cannot keep the promise.
func (sys *system) checkDisk(fd int) error {
	name, ok, err := sys.filesystem(fd)
	if err != nil || ok {
		return err
	}
	return &fault{
		err:    ErrUnsafe,
		detail: fmt.Sprintf("its file system is %s, which may lose what was confirmed", name),
		cure:   localDisk,
	}
}

// checkFile refuses what somebody else could read or change, and what is no
// state file from afar.
func checkFile(path string, st *unix.Stat_t, uid uint32) error {
	unsafe := func(cure, format string, args ...any) error {
		return &fault{err: ErrUnsafe, detail: fmt.Sprintf(format, args...), cure: cure}
	}
	switch mode := st.Mode & 0o7777; {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return unsafe("correct the key `state` in the config", "it is not a regular file")
	case st.Uid != uid && st.Uid != 0:
		return unsafe("run privyseal as its owner, or change the owner with chown", "it belongs to uid %d, this is uid %d", st.Uid, uid)
	case mode&^0o600 != 0:
		return unsafe("find out who could change it, then run `chmod 600 "+shell.File(path)+"`", "its mode is %#o, looser than 0600", mode)
	case st.Size != fileSize:
		return &fault{err: ErrDamaged, detail: fmt.Sprintf("it is %d bytes long, not %d", st.Size, fileSize)}
	}
	return nil
}

// readSlots reads both slots of fd.
func (sys *system) readSlots(fd int, slots *[2][slotSize]byte) error {
	for i := range slots {
		n, err := sys.pread(fd, slots[i][:], int64(i)*slotOffset)
		if err != nil {
			return fmt.Errorf("cannot read slot %d: %w", i, err)
		}
		if n != slotSize {
			return &fault{err: ErrDamaged, detail: fmt.Sprintf("slot %d is cut off after %d bytes", i, n)}
		}
	}
	return nil
}

// writeSlot writes a record to slot i of fd and returns when it is durable.
//
// A crash before the sync has returned leaves the slot old, new or torn, on the
// disk and in the page cache each for itself. After an error no retry helps: the
// kernel may have marked the page clean without writing it.
func (sys *system) writeSlot(fd, i int, slot *[slotSize]byte) error {
	n, err := sys.pwrite(fd, slot[:], int64(i)*slotOffset)
	if err != nil {
		return fmt.Errorf("cannot write slot %d: %w", i, err)
	}
	if n != slotSize {
		return fmt.Errorf("cannot write slot %d: %w", i, io.ErrShortWrite)
	}
	if err := sys.fdatasync(fd); err != nil {
		return fmt.Errorf("cannot sync slot %d: %w", i, err)
	}
	return nil
}

// lock locks fd, or closes it and returns an error.
//
// The wait for a lock cannot be called off: if ctx ends first, the descriptor
// is left to the waiting goroutine, which closes it as soon as it gets the lock.
func (sys *system) lock(ctx context.Context, fd int, wait bool) error {
	err := sys.flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if err != unix.EWOULDBLOCK || !wait {
		sys.close(fd)
		if err == unix.EWOULDBLOCK {
			return &fault{err: ErrLocked}
		}
		return fmt.Errorf("cannot lock it: %w", err)
	}
	locked := make(chan error) // without a buffer: one of the two takes the descriptor
	gone := make(chan struct{})
	go func() {
		err := sys.flock(fd, unix.LOCK_EX)
		select {
		case locked <- err:
		case <-gone:
			sys.close(fd)
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			sys.close(fd)
			return fmt.Errorf("cannot lock it: %w", err)
		}
		return nil
	case <-ctx.Done():
		close(gone)
		return ctx.Err()
	}
}

func (sys *system) syncDir(dir string) error {
	fd, err := sys.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer sys.close(fd)
	if err := sys.fsync(fd); err != nil {
		return &os.PathError{Op: "fsync", Path: dir, Err: err}
	}
	return nil
}
