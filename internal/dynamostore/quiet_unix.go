//go:build unix

package dynamostore

import (
	"net"
	"syscall"
)

// quiet reports whether nothing, not even an end, has come on a connection. It says so, too,
// of one that is not the system's.
func quiet(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	nothing := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		nothing = err == syscall.EAGAIN
		return true
	})
	return err == nil && nothing
}
