//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"privyseal/test/sgx/rig"
)

// enter becomes the program of the enclave: below its root, without rights, and without
// what of Linux Gramine does not have.
func enter(_ *rig.Machine, args []string) int {
	lines = os.NewFile(3, "stderr") // what is 2 is the program's
	unix.CloseOnExec(3)
	var p plan
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		return ill(err)
	}
	if err := unix.Chroot(p.Root); err != nil {
		return ill(fmt.Errorf("cannot change the root: %w", err))
	}
	if err := os.Chdir("/"); err != nil {
		return ill(err)
	}
	// Root without capabilities: what nobody may read, it cannot read.
	for capability := uintptr(0); unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0) == nil; capability++ {
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return ill(err)
	}
	filter := lacking(p.NoFork)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return ill(fmt.Errorf("cannot leave out what Gramine lacks: %w", err))
	}
	if err := unix.Exec(p.Program, p.Argv, p.Env); err != nil {
		say("[P1:T1:] error: Error during loading of %s: %v", p.Program, err)
	}
	return 1
}

// absent are system calls that libos/src/arch/x86_64/libos_table.c has no function for, or
// one that is off, among those that Go's library may use.
var absent = []uint32{
	unix.SYS_SPLICE, unix.SYS_TEE, unix.SYS_PRCTL, unix.SYS_STATX, unix.SYS_UTIMENSAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_SYNCFS, unix.SYS_OPENAT2,
	unix.SYS_MEMFD_CREATE, unix.SYS_PIDFD_OPEN, unix.SYS_CAPGET, unix.SYS_FLOCK, unix.SYS_COPY_FILE_RANGE, unix.SYS_CLONE3,
}

// lacking is a filter of system calls. What fork(2) does is EAGAIN if noFork, as
// sys.disallow_subprocesses makes it.
func lacking(noFork bool) []unix.SockFilter {
	const number, firstArgument = 0, 16 // in struct seccomp_data
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// jump skips one instruction unless the condition holds.
	jump := func(condition uint16, k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | condition | unix.BPF_K, K: k, Jf: 1}
	}
	end := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	errno := func(e unix.Errno) unix.SockFilter { return end(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	program := []unix.SockFilter{load(number)}
	for _, call := range absent {
		program = append(program, jump(unix.BPF_JEQ, call), errno(unix.ENOSYS))
	}
	// If it is socket(2), the next four decide; if clone(2), those behind them.
	program = append(program,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 6},
		load(firstArgument),
		jump(unix.BPF_JEQ, unix.AF_VSOCK), errno(unix.EAFNOSUPPORT),
		jump(unix.BPF_JEQ, unix.AF_NETLINK), errno(unix.EAFNOSUPPORT),
		end(unix.SECCOMP_RET_ALLOW),
	)
	if noFork {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 3},
			load(firstArgument),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jt: 1},
			errno(unix.EAGAIN),
		)
	}
	return append(program, end(unix.SECCOMP_RET_ALLOW))
}
