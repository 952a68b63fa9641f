// Package dial connects to nodes, and says who listens there. It is one for those
// that sign in this process and for the host of an enclave, which signs elsewhere.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Timeout bounds a dial.
const Timeout = 5 * time.Second

// Node connects to a node on network, "unix" or "tcp". With peerUID, which is for
// unix sockets only, the process that listens there has to be of that user.
func Node(ctx context.Context, network, address string, peerUID *uint32) (net.Conn, error) {
	d := net.Dialer{
		Timeout: Timeout,
		// Nothing else distinguishes a parked connection from a dead one.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil || peerUID == nil {
		return conn, err
	}
	if err := checkUser(conn, *peerUID); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func checkUser(conn net.Conn, want uint32) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("only a unix socket says whose process it is")
	}
	uid, err := listener(unix)
	if err == nil && uid != want {
		err = fmt.Errorf("user %d listens there, peer_uid is %d", uid, want)
	}
	return err
}
