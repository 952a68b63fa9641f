// Package vsock connects an enclave and its parent: listen, dial, pipe.
//
// Inside the enclave it is AF_VSOCK ([Listen], [Dial]). Outside it is AF_VSOCK
// too, or a folder of unix sockets where the enclave runs in a virtual machine
// whose monitor offers vsock in that form ([Host]). The names in the folder are
// Firecracker's; its monitor will not do as it is, since it dials a guest from ports
// from 2^30 up, which [OnlyReserved] turns away.
//
// It is not a security boundary against root on the parent instance: what crosses
// has to be protected by those who send it. It is one against everybody else
// there. AF_VSOCK has no permissions, so whoever may open a socket may dial any
// enclave and take any port that its host has left. Ports below 1024 take
// CAP_NET_BIND_SERVICE (vsock_bind in the kernel's net/vmw_vsock/af_vsock.c): the
// host listens on such ports and dials from such ports, and [OnlyReserved] turns
// away who does not. Host checks that its peer is the enclave that it was made
// for, since all enclaves of an instance reach the same ports.
//
// AF_VSOCK goes straight to golang.org/x/sys: a socket of the runtime's poller
// is all that is needed, and the known library for it would add four modules to
// the measured program.
//
// Addresses: vsock(7), linux/vm_sockets.h. Unix form: docs/vsock.md of Firecracker.
package vsock

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Context ids with a meaning of their own.
const (
	CIDAny        = 0xffffffff // only to listen
	CIDHypervisor = 0          // as the instance sees it
	CIDParent     = 3          // the instance that an enclave runs on, as the enclave sees it
)

// reserved is the first port that anybody may have.
const reserved = 1024

// OnlyReserved closes connections that l accepts from a port which anybody on the
// peer's side can have.
func OnlyReserved(l net.Listener) net.Listener {
	return only{l, func(a Addr) bool { return a.Port < reserved }}
}

// only closes connections of other peers.
type only struct {
	net.Listener
	allowed func(Addr) bool
}

func (l only) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := c.RemoteAddr().(Addr); ok && l.allowed(a) {
			return c, nil
		}
		c.Close()
	}
}

// Addr is an end of a connection.
type Addr struct{ CID, Port uint32 }

// Network returns "vsock".
func (Addr) Network() string { return "vsock" }

// String returns "vsock://CID:PORT".
func (a Addr) String() string { return fmt.Sprintf("vsock://%d:%d", a.CID, a.Port) }

// Conn is a connection that can be closed for writing alone. All connections of
// this package are.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Pipe copies between a and b until both directions have ended, and closes both.
// An end of file on one side becomes CloseWrite on the other, so a request that
// ends by closing still gets its answer. Any other error ends both directions at
// once and is returned.
func Pipe(a, b Conn) error {
	var (
		failed error
		once   sync.Once
		wg     sync.WaitGroup
	)
	end := func(err error) {
		once.Do(func() { failed = err })
		a.Close()
		b.Close()
	}
	copyOne := func(dst, src Conn) {
		if _, err := io.Copy(dst, src); err != nil {
			end(err)
			return
		}
		// The other side may be gone already; then its copy says so.
		if err := dst.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			end(nil)
		}
	}
	wg.Go(func() { copyOne(a, b) })
	wg.Go(func() { copyOne(b, a) })
	wg.Wait()
	end(nil)
	return failed
}
