package filestore

import (
	"crypto/sha256"
	"encoding/hex"
	"os"

	"golang.org/x/sys/unix"
)

// examine fills in what the operating system says of the open file, and returns
// what is wrong with it.
func (c Config) examine(f *os.File, info *Info) error {
	sys, fd := kernel(), int(f.Fd())
	name, _, err := sys.filesystem(fd)
	if err != nil {
		return err
	}
	info.Filesystem = name
	if err := sys.checkDisk(fd); err != nil {
		return err
	}
	here, err := sys.bindingOf(fd)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(append(here.machine[:], here.file[:]...))
	info.Instance = hex.EncodeToString(sum[:16])
	var st unix.Stat_t
	if err := sys.fstat(fd, &st); err != nil {
		return err
	}
	return checkFile(c.Path, &st, uint32(os.Geteuid()))
}

// surroundings returns what is around the open file.
func (c Config) surroundings(f *os.File) (*surroundings, error) {
	sys, fd := kernel(), int(f.Fd())
	var around surroundings
	var st unix.Stat_t
	if err := sys.fstat(fd, &st); err != nil {
		return nil, err
	}
	around.mtime, around.ctime = st.Mtim.Nano(), st.Ctim.Nano()
	var err error
	if around.companions, err = c.companions(sys); err != nil {
		return nil, err
	}
	around.host = c.peekHost(sys, st.Uid)
	around.here, err = sys.bindingOf(fd)
	return &around, err
}
