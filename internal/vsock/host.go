package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// handshakeTimeout bounds how long the monitor and the guest may take to accept
// a connection, if the caller's context does not.
const handshakeTimeout = 10 * time.Second

// Host is the parent's side of one enclave's vsock.
type Host struct {
	// CID is the enclave's, 4 or above.
	CID uint32
	// Dir, if set, is the folder with the unix sockets of the monitor; AF_VSOCK is
	// not touched then. The monitor listens on vsock-CID in it, where the host
	// dials; a port P that the guest dials is the socket vsock-CID_P, where the
	// host listens. Whoever may write to the folder may pose as either; an enclave
	// of ours expects the monitor to dial it from a port below 1024.
	Dir string
}

// Base returns the path of the monitor's socket.
func (h Host) Base() string { return filepath.Join(h.Dir, fmt.Sprintf("vsock-%d", h.CID)) }

func (h Host) check() error {
	if h.CID <= CIDParent || h.CID == CIDAny {
		return fmt.Errorf("%d is not a CID of an enclave: it is 4 or above", h.CID)
	}
	return nil
}

// Listen accepts what the enclave dials at port. Its connections are Conns.
func (h Host) Listen(port uint32) (net.Listener, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if h.Dir != "" {
		return listenUnix(fmt.Sprintf("%s_%d", h.Base(), port))
	}
	l, err := Listen(port)
	if err != nil {
		return nil, err
	}
	return h.own(l), nil
}

// own lets in what the enclave dials: a port of the host is open to every enclave of
// the instance, and to all its users.
func (h Host) own(l net.Listener) net.Listener {
	return only{l, func(a Addr) bool { return a.CID == h.CID }}
}

// MayServe says at once, before there is an enclave, that this process may not take
// the ports of an enclave's host; Listen and Dial would say the same. What else can
// fail is left to them.
func (h Host) MayServe() error {
	if h.Dir != "" {
		return nil
	}
	return mayReserve()
}

// listenUnix takes over the socket that a killed process left behind, and refuses
// to take one that somebody serves.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if info, statErr := os.Lstat(path); errors.Is(err, syscall.EADDRINUSE) && statErr == nil && info.Mode().Type() == os.ModeSocket {
		c, dialErr := net.Dial("unix", path)
		if dialErr == nil {
			c.Close()
			return nil, fmt.Errorf("cannot listen on %s: another process does: %w", path, syscall.EADDRINUSE)
		}
		if !errors.Is(dialErr, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot listen: %w", err)
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	return l, nil
}

// Dial connects to what the enclave listens on at port. A port where nobody
// listens is an error at once.
func (h Host) Dial(ctx context.Context, port uint32) (Conn, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if h.Dir == "" {
		return DialReserved(ctx, h.CID, port)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", h.Base())
	if err != nil {
		return nil, fmt.Errorf("cannot dial the enclave's port %d: %w", port, err)
	}
	c := nc.(*net.UnixConn)
	if err := connect(ctx, c, port); err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot dial the enclave's port %d: %w", port, err)
	}
	return c, nil
}

// consolePorts is what AWS's hypervisor adds to the CID of an enclave in debug mode for the
// port of its console (CID_TO_CONSOLE_PORT_OFFSET in src/lib.rs of aws-nitro-enclaves-cli).
const consolePorts = 10000

// ConsolePath returns the socket that stands for the hypervisor's port with the enclave's
// console, where Dir is set.
func (h Host) ConsolePath() string { return h.Base() + "_console" }

// Console connects to the console of an enclave in debug mode. That is the hypervisor's: it
// is there as soon as the enclave is started, whether or not that comes up.
func (h Host) Console(ctx context.Context) (io.ReadCloser, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if h.Dir == "" {
		return Dial(ctx, CIDHypervisor, consolePorts+h.CID)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", h.ConsolePath())
	if err != nil {
		return nil, fmt.Errorf("cannot dial the enclave's console: %w", err)
	}
	return c, nil
}

// connect asks the monitor for a port of the guest: "CONNECT P\n", "OK n\n".
func connect(ctx context.Context, c *net.UnixConn, port uint32) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err := exchange(c, port)
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func exchange(c *net.UnixConn, port uint32) error {
	if _, err := fmt.Fprintf(c, "CONNECT %d\n", port); err != nil {
		return err
	}
	// Byte by byte: what follows the line is the guest's.
	line := make([]byte, 0, len("OK 4294967295\n"))
	for len(line) < cap(line) {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); errors.Is(err, io.EOF) {
			return syscall.ECONNREFUSED
		} else if err != nil {
			return err
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	number, ok := strings.CutPrefix(string(line), "OK ")
	if _, err := strconv.ParseUint(number, 10, 32); !ok || err != nil {
		return fmt.Errorf("the monitor answered %q", line)
	}
	return nil
}
