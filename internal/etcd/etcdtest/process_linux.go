package etcdtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	stopSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)

// endsWithUs has the system kill a program if the test is killed.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// isStopped reports whether no thread of a process runs.
func isStopped(pid int) bool {
	stats, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/stat"))
	for _, path := range stats {
		text, err := os.ReadFile(path)
		_, state, found := bytes.Cut(text, []byte(") "))
		if err == nil && found && state[0] != 'T' {
			return false
		}
	}
	return true
}

// isTraced reports whether another process holds all threads of this one by ptrace.
func isTraced(pid int) bool {
	list, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/status"))
	for _, path := range list {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("\nTracerPid:\t0\n")) {
			return false
		}
	}
	return true
}
