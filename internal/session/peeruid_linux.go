package session

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// checkPeerUID checks who listens on the other end of a unix socket. The kernel
// keeps the user that called listen (unix(7), SO_PEERCRED).
func checkPeerUID(conn net.Conn, want uint32) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("only a unix socket tells the user behind it")
	}
	raw, err := unix.SyscallConn()
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
