//go:build !linux

package sgxhost

import "syscall"

// ofHost is of no use here: SGX is for Linux.
func ofHost() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
