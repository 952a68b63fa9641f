package sgxhost

import "syscall"

// ofHost makes a process end with us. It has a group of its own: Ctrl-C in a terminal is for
// us, who end it in order.
func ofHost() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
