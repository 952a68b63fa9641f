//go:build !linux

package rig

import "syscall"

// Namespaces are of Linux alone; [Available] says first that /dev/fuse is missing.
func Namespaces() *syscall.SysProcAttr { return nil }
