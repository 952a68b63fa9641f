package daemon

import (
	"net"
	"os"
	"time"
)

// notify tells systemd the state of the service, if it runs us (sd_notify(3):
// one datagram to the socket in $NOTIFY_SOCKET).
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// Go reads a leading @ as the abstract name that systemd means by it.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	// Nobody may wait for a manager that does not read.
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
