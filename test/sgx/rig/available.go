package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// ErrMissing says that this machine cannot run enclaves of the rig.
var ErrMissing = errors.New("it is not there")

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
