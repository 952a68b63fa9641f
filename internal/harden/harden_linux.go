// Package harden keeps the secrets of a process in its memory: out of core files, out of
// swap, and from debuggers of the same user.
package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ForbidCoreDumps keeps secrets out of core files, and out of reach of a debugger of the
// same user (prctl(2), PR_SET_DUMPABLE).
func ForbidCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// LockMemory keeps all pages of the process out of swap, from the moment at which
// each is touched (mlockall(2)): what is only reserved, as most of a Go heap, costs
// nothing. Where the limit is finite it locks nothing: a heap that grows beyond it
// would end the process.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY && !mayLockAll() {
		// It may be raised up to the hard limit, and beyond it by root.
		infinite := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &infinite); err != nil {
			return fmt.Errorf("at most %d bytes may be locked; LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`, lifts that", limit.Max)
		}
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// mayLockAll reports whether the limit does not count for us (capabilities(7)).
func mayLockAll() bool {
	var sets [2]unix.CapUserData
	if unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0]) != nil {
		return false
	}
	return sets[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
