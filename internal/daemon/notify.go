package daemon

import (
	"fmt"
	"net"
	"os"
	"time"

	"privyseal/internal/cure"
)

// notify reports the state of the service to systemd, if it runs us (sd_notify(3):
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

// Notify reports the state to systemd. If it could not, that is logged.
func (d *Daemon) Notify(state string) {
	if err := notify(state); err != nil {
		d.Log.Warn("cannot notify systemd", "error", err)
	}
}

// Summary says in a line how many chains can sign.
func (d *Daemon) Summary() string {
	ready, chains := 0, d.Monitor.Snapshot().Chains
	for _, c := range chains {
		if c.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d of %s can sign", ready, cure.Count(len(chains), "chain"))
}
