// Package vsock connects an enclave and its parent: listen, dial, pipe.
//
// Inside the enclave it is AF_VSOCK ([Listen], [Dial]). Outside it is AF_VSOCK
// too, or a folder of unix sockets where the enclave runs in a virtual machine
// whose monitor offers vsock in that form, as Firecracker does ([Host]).
//
// It is no security boundary: both ends are in the hands of whoever holds the
// parent instance, and what crosses has to be protected by those who send it.
// The one thing that Host checks is that a peer on AF_VSOCK is the enclave that
// it was made for, since all enclaves of an instance reach the same ports.
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
	CIDAny    = 0xffffffff // only to listen
	CIDParent = 3          // the instance that an enclave runs on, as the enclave sees it
)

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
