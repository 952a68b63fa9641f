//go:build !linux

package dial

import (
	"errors"
	"net"
)

func listener(*net.UnixConn) (uint32, error) {
	return 0, errors.New("peer_uid is checked on Linux only")
}
