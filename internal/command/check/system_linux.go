package check

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// syncData is the sync that the state file uses.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// clockSynchronised returns what the kernel says about the clock.
func clockSynchronised() (synchronised, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return state != unix.TIME_ERROR, err == nil
}

// coreLimit returns the limit of core files of a process, in bytes. It is not
// known for a process that has closed itself to its user, which writes none
// that we could read.
func coreLimit(pid int) (limit string, known bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, "Max core file size"); found {
			if fields := strings.Fields(rest); len(fields) > 0 {
				return fields[0], true
			}
		}
	}
	return "", false
}
