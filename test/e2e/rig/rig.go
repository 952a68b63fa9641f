// Package rig runs real CometBFT nodes and the privyseal program, for the tests
// in test/e2e and for the demo.
//
// It drives privyseal through its command line alone, as an operator would, and
// computes the bytes under a commit's signatures by itself: it shares no code
// with what it tests. Everything listens on 127.0.0.1.
package rig

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"privyseal/test/tools"
)

// NewDir makes a folder for one run. It is in the cache and not in /tmp,
// which often is a tmpfs, and privyseal refuses to keep its state on one.
func NewDir() (string, error) {
	cache, err := tools.Cache()
	if err != nil {
		return "", err
	}
	parent := filepath.Join(cache, "run")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, "")
}

// Ports are handed out from below the range that the kernel takes the ports of
// outgoing connections from, so that none is taken between our look and the
// listener's start.
const firstPort, ports = 20000, 12000

var nextPort atomic.Int64

// FreePort returns a TCP port on 127.0.0.1 that nobody listens on. It returns
// each port once in a process.
func FreePort() (int, error) {
	for range ports {
		// Two processes start far apart.
		port := firstPort + (int64(os.Getpid())*97+nextPort.Add(1))%ports
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return int(port), nil
	}
	return 0, errors.New("no free port on 127.0.0.1")
}
