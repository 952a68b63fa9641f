package main

import "golang.org/x/sys/unix"

// forbidCoreDumps keeps the key out of core files, and out of reach of a
// debugger of the same user (prctl(2), PR_SET_DUMPABLE).
func forbidCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
