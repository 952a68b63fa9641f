package filestore

import (
	"os"

	"golang.org/x/sys/unix"
)

// examine fills in what the operating system says of the open file, and returns
// what the file has to be bound to and what is wrong with it.
func (c Config) examine(f *os.File, info *Info) (here *binding, problem error) {
	sys, fd := kernel(), int(f.Fd())
	name, _, err := sys.filesystem(fd)
	if err != nil {
		return nil, err
	}
	info.Filesystem = name
	if err := sys.checkDisk(fd); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := sys.fstat(fd, &st); err != nil {
		return nil, err
	}
	problem = checkFile(c.Path, &st, uint32(os.Geteuid()))
	b, err := sys.bindingOf(fd)
	if err != nil {
		return nil, err
	}
	return &b, problem
}
