package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// disks are the file systems on which privyseal keeps state (doc/operations.md)
// and that are likely on a machine that measures.
var disks = map[int64]string{
	unix.EXT4_SUPER_MAGIC:  "ext4",
	unix.XFS_SUPER_MAGIC:   "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.F2FS_SUPER_MAGIC:  "f2fs",
}

// diskOf returns the name of the file system of dir. One without a disk below
// it, where a sync is free, is an error.
func diskOf(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	name, ok := disks[int64(st.Type)]
	if !ok {
		return "", fmt.Errorf("%s is on a file system of type %#x, where nothing worth measuring is durable; name a folder on ext4, xfs, btrfs or f2fs with -dir", dir, st.Type)
	}
	return name, nil
}

// machine describes where the numbers come from, the load before the run
// included.
func machine(disk string) string {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			return "?"
		}
		return strings.TrimSpace(string(text))
	}
	load := strings.Join(strings.Fields(read("/proc/loadavg"))[:1], "")
	return fmt.Sprintf("%d cores, %s, Linux %s, %s, load %s",
		runtime.NumCPU(), disk, read("/proc/sys/kernel/osrelease"), runtime.Version(), load)
}

// rawFile is the least that a durable mark can cost: one block of a file that
// needs no allocation, written and synced.
//
// It is a block of the very file that it is compared with, and its content stays
// what it is: on a virtual disk two files differ by up to a factor of two in what
// a sync costs.
type rawFile struct {
	f     *os.File
	block [512]byte
}

func newRawFile(stateFile string) (*rawFile, error) {
	f, err := os.OpenFile(stateFile, os.O_RDWR, 0)
	return &rawFile{f: f}, err
}

func (r *rawFile) write() error {
	fd := int(r.f.Fd())
	if _, err := unix.Pread(fd, r.block[:], 0); err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, r.block[:], 0); err != nil {
		return err
	}
	return unix.Fdatasync(fd)
}
