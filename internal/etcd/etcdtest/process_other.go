//go:build !linux

package etcdtest

import "syscall"

const (
	stopSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)

func endsWithUs() *syscall.SysProcAttr { return nil }

func isStopped(int) bool { return true }

func isTraced(int) bool { return false }
