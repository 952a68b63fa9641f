package host

import (
	"fmt"
	"net"
	"syscall"
)

// checkPeerUID checks who listens on the other end of a unix socket. The kernel
// keeps the user that called listen (unix(7), SO_PEERCRED).
func checkPeerUID(conn *net.UnixConn, want uint32) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if cred.Uid != want {
		return fmt.Errorf("user %d listens there, peer_uid wants %d", cred.Uid, want)
	}
	return nil
}
