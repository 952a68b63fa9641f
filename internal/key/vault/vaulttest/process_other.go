//go:build !linux

package vaulttest

import "syscall"

const (
	stopSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)

func endsWithUs() *syscall.SysProcAttr { return nil }
