//go:build !linux

package harden

import "syscall"

// ForbidCoreDumps keeps secrets out of core files.
func ForbidCoreDumps() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// LockMemory does nothing: what keeps memory out of swap differs from system to
// system.
func LockMemory() error { return nil }
