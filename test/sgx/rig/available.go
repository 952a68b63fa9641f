package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ErrMissing says that this machine cannot run enclaves of the rig.
var ErrMissing = errors.New("it is not there")

// Namespaces are those of an enclave: mounts of its own, and for who is not root a user of
// its own that may mount.
func Namespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// Available says what is missing, wrapped in ErrMissing.
func Available() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w (%w)", ErrMissing, err)
	}
	f.Close()
	cmd := exec.Command("true")
	cmd.SysProcAttr = Namespaces()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("namespaces of mounts, for root or for any user: %w (%w)", ErrMissing, err)
	}
	return nil
}
