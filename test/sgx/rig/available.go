package rig

import (
	"fmt"
	"os"
	"os/exec"

	"privyseal/test/tools"
)

// Available says what this machine lacks to run enclaves of the rig, wrapped in
// tools.ErrMissing.
func Available() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("/dev/fuse: %w (%w)", tools.ErrMissing, err)
	}
	f.Close()
	cmd := exec.Command("true")
	cmd.SysProcAttr = Namespaces()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("namespaces of mounts, for root or for any user: %w (%w)", tools.ErrMissing, err)
	}
	return nil
}
