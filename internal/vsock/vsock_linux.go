package vsock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many connections wait for Accept before others are refused.
const backlog = 128

// Listen accepts connections at port of this machine's AF_VSOCK, from any peer.
// Its connections are Conns. Port 0xffffffff takes any free one.
func Listen(port uint32) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on vsock port %d: %w", port, err)
	}
	if err = unix.Bind(fd, &unix.SockaddrVM{CID: CIDAny, Port: port}); err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot listen on vsock port %d: %w", port, privilege(err))
	}
	f := newFile(fd)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &listener{f, raw, addrOf(unix.Getsockname(fd))}, nil
}

// privilege adds the cure to what the kernel says about a port below 1024.
func privilege(err error) error {
	if err == unix.EACCES {
		return fmt.Errorf("%w: ports below 1024 take CAP_NET_BIND_SERVICE, which keeps other users of this machine from posing as the enclave's host; the unit privyseal-nitro.service has it, and by hand setpriv gives it (doc/nitro.md)", err)
	}
	return err
}

// Dial connects to a port of a peer. The kernel gives up after 2 seconds by itself.
func Dial(ctx context.Context, cid, port uint32) (Conn, error) {
	return dial(ctx, cid, port, false)
}

// DialReserved dials from a port below 1024, for an [OnlyReserved] peer.
func DialReserved(ctx context.Context, cid, port uint32) (Conn, error) {
	return dial(ctx, cid, port, true)
}

// The ports that DialReserved dials from: none that somebody listens on.
const firstSource, sources = 512, 256

// bindReserved takes a free port. Those of connections that ended a moment ago
// are taken still, so the search begins anywhere.
func bindReserved(fd int) (err error) {
	start := rand.Uint32N(sources)
	for i := range uint32(sources) {
		port := firstSource + (start+i)%sources
		if err = unix.Bind(fd, &unix.SockaddrVM{CID: CIDAny, Port: port}); err != unix.EADDRINUSE {
			break
		}
	}
	return privilege(err)
}

// mayReserve tries to take a reserved port, on a socket that is closed again.
func mayReserve() error {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := bindReserved(fd); errors.Is(err, unix.EACCES) {
		return fmt.Errorf("cannot take a vsock port: %w", err)
	}
	return nil
}

func dial(ctx context.Context, cid, port uint32, fromReserved bool) (Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot dial %v: %w", Addr{cid, port}, err)
	}
	c, err := newConn(fd, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot dial %v: %w", Addr{cid, port}, err)
	}
	if fromReserved {
		if err := bindReserved(fd); err != nil {
			c.Close()
			return nil, fmt.Errorf("cannot dial %v: %w", Addr{cid, port}, err)
		}
	}
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	err = c.connect(&unix.SockaddrVM{CID: cid, Port: port})
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot dial %v: %w", Addr{cid, port}, err)
	}
	c.local, c.remote = addrOf(unix.Getsockname(fd)), Addr{cid, port}
	return c, nil
}

// newFile hands a non-blocking socket to the runtime's poller, which gives it
// deadlines, and a Close that wakes those who wait.
func newFile(fd int) *os.File { return os.NewFile(uintptr(fd), "vsock") }

func addrOf(sa unix.Sockaddr, _ error) Addr {
	if vm, ok := sa.(*unix.SockaddrVM); ok {
		return Addr{vm.CID, vm.Port}
	}
	return Addr{}
}

type listener struct {
	f    *os.File
	raw  syscall.RawConn
	addr Addr
}

func (l *listener) Accept() (net.Conn, error) {
	var (
		fd  int
		sa  unix.Sockaddr
		err error
	)
	waitErr := l.raw.Read(func(s uintptr) bool {
		for {
			fd, sa, err = unix.Accept4(int(s), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			// A peer that gave up while it waited is no reason to stop.
			if err != unix.EINTR && err != unix.ECONNABORTED {
				return err != unix.EAGAIN
			}
		}
	})
	if waitErr != nil { // nobody sets a deadline, so it was closed
		return nil, &net.OpError{Op: "accept", Net: "vsock", Addr: l.addr, Err: net.ErrClosed}
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "vsock", Addr: l.addr, Err: err}
	}
	return newConn(fd, sa)
}

func (l *listener) Close() error   { return closed(l.f.Close()) }
func (l *listener) Addr() net.Addr { return l.addr }

type conn struct {
	// f is not part of conn's methods: its ReadFrom and WriteTo are made for files.
	f   *os.File
	raw syscall.RawConn

	local, remote Addr
}

func newConn(fd int, peer unix.Sockaddr) (*conn, error) {
	f := newFile(fd)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &conn{f, raw, addrOf(unix.Getsockname(fd)), addrOf(peer, nil)}, nil
}

// connect waits until the connection is established. The poller's first event can be
// from before connect, so it is the peer's name that decides.
func (c *conn) connect(to unix.Sockaddr) error {
	var err error
	started := false
	waitErr := c.raw.Write(func(s uintptr) bool {
		fd := int(s)
		if !started {
			started = true
			err = unix.Connect(fd, to)
			return err != unix.EINPROGRESS && err != unix.EINTR
		}
		var code int
		if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			return true
		}
		_, err = unix.Getpeername(fd)
		return err != unix.ENOTCONN
	})
	if waitErr != nil {
		return waitErr
	}
	return err
}

func (c *conn) CloseWrite() error {
	var err error
	if ctlErr := c.raw.Control(func(s uintptr) { err = unix.Shutdown(int(s), unix.SHUT_WR) }); ctlErr != nil {
		return net.ErrClosed
	}
	return err
}

// closed says "closed" in net's words, which callers look for.
func closed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.f.Read(p)
	return n, closed(err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.f.Write(p)
	return n, closed(err)
}

func (c *conn) Close() error                       { return closed(c.f.Close()) }
func (c *conn) SetDeadline(t time.Time) error      { return closed(c.f.SetDeadline(t)) }
func (c *conn) SetReadDeadline(t time.Time) error  { return closed(c.f.SetReadDeadline(t)) }
func (c *conn) SetWriteDeadline(t time.Time) error { return closed(c.f.SetWriteDeadline(t)) }

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }
