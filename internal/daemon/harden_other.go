//go:build !linux

package daemon

import "syscall"

// forbidCoreDumps keeps the key out of core files.
func forbidCoreDumps() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// lockMemory does nothing: what keeps memory out of swap differs from system to
// system.
func lockMemory() error { return nil }
