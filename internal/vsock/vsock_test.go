package vsock

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// AF_VSOCK itself is tested where it exists, in a guest: test/nitro.

// newHost returns a Host in a folder whose path is short enough for sockets.
func newHost(t *testing.T) Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "vsock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Host{CID: 16, Dir: dir}
}

// monitor plays Firecracker with a guest: each dialled port is answered by reply,
// which gets the port's line.
func monitor(t *testing.T, h Host, reply func(c *net.UnixConn, line string)) {
	t.Helper()
	l, err := net.Listen("unix", h.Base())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, _ := bufio.NewReaderSize(c, 16).ReadString('\n')
				reply(c.(*net.UnixConn), line)
			}()
		}
	}()
}

func TestHostDialsAPortOfTheGuest(t *testing.T) {
	h := newHost(t)
	monitor(t, h, func(c *net.UnixConn, line string) {
		// The guest speaks first, in the same packet as the monitor's answer: not
		// a byte of it may be lost.
		fmt.Fprintf(c, "OK 1073741824\n%s", line)
		io.Copy(c, c)
	})
	c, err := h.Dial(t.Context(), 7001)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "and back")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if want := "CONNECT 7001\nand back"; string(got) != want || err != nil {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

func TestHostDialFails(t *testing.T) {
	h := newHost(t)
	if _, err := h.Dial(t.Context(), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a monitor: %v", err)
	}
	var answer string
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	monitor(t, h, func(c *net.UnixConn, _ string) {
		if answer == "hang" {
			<-hang
		}
		io.WriteString(c, answer)
	})
	for _, answer = range []string{"OK\n", "OK x\n", "OK -1\n", "ERR 5\n", strings.Repeat("x", 1000), "\n"} {
		if _, err := h.Dial(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "the monitor answered") {
			t.Errorf("answer %.20q: %v", answer, err)
		}
	}
	answer = "" // where nobody listens, the monitor closes
	if _, err := h.Dial(t.Context(), 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed port: %v", err)
	}
	answer = "hang"
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent monitor: %v", err)
	}
}

func TestHostListens(t *testing.T) {
	h := newHost(t)
	l, err := h.Listen(9001)
	if err != nil {
		t.Fatal(err)
	}
	path := h.Base() + "_9001"
	if _, err := h.Listen(9001); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("listening twice: %v", err)
	}
	// kill -9 leaves the socket behind.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err = h.Listen(9001)
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	defer l.Close()

	guest, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(Conn); !ok {
		t.Errorf("%T cannot be half closed", c)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read of nothing: %v", err)
	}
}

func TestListenNeverRemovesAFile(t *testing.T) {
	h := newHost(t)
	path := h.Base() + "_5"
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Listen(5); err == nil {
		t.Error("listening on a file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q", b)
	}
}

func TestHostRefusesReservedCIDs(t *testing.T) {
	for _, cid := range []uint32{0, 1, 2, 3, CIDAny} {
		// Without a folder this would reach for AF_VSOCK.
		h := Host{CID: cid}
		if _, err := h.Listen(1); err == nil || !strings.Contains(err.Error(), "not a CID of an enclave") {
			t.Errorf("Listen with CID %d: %v", cid, err)
		}
		if _, err := h.Dial(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "not a CID of an enclave") {
			t.Errorf("Dial with CID %d: %v", cid, err)
		}
	}
}

// fakeListener hands out connections of given peers.
type fakeListener struct {
	net.Listener
	conns []net.Conn
}

func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	c := l.conns[0]
	l.conns = l.conns[1:]
	return c, nil
}

type peerConn struct {
	net.Conn
	peer   net.Addr
	closed bool
}

func (c *peerConn) RemoteAddr() net.Addr { return c.peer }
func (c *peerConn) Close() error         { c.closed = true; return nil }

func TestOnlyTheOwnEnclaveGetsIn(t *testing.T) {
	other := &peerConn{peer: Addr{CID: 17, Port: 1}}
	host := &peerConn{peer: Addr{CID: CIDParent, Port: 1}}
	unknown := &peerConn{peer: &net.UnixAddr{}}
	own := &peerConn{peer: Addr{CID: 16, Port: 1}}
	l := Host{CID: 16}.own(&fakeListener{conns: []net.Conn{other, host, unknown, own}})
	if c, err := l.Accept(); c != own || err != nil {
		t.Errorf("accepted %v, %v", c, err)
	}
	if !other.closed || !host.closed || !unknown.closed || own.closed {
		t.Error("the wrong connections were closed")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the last: %v", err)
	}
}

func TestOnlyAPrivilegedPeerGetsIn(t *testing.T) {
	anybody := &peerConn{peer: Addr{CID: CIDParent, Port: 1024}}
	unknown := &peerConn{peer: &net.UnixAddr{}}
	root := &peerConn{peer: Addr{CID: CIDParent, Port: 1023}}
	l := OnlyReserved(&fakeListener{conns: []net.Conn{anybody, unknown, root}})
	if c, err := l.Accept(); c != root || err != nil {
		t.Errorf("accepted %v, %v", c, err)
	}
	if !anybody.closed || !unknown.closed || root.closed {
		t.Error("the wrong connections were closed")
	}
}

// unixPair returns two ends of a connection.
func unixPair(t *testing.T) (a, b Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(newHost(t).Dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca.(Conn), cb.(Conn)
}

// halfClosed counts what is closed for writing alone.
type halfClosed struct {
	Conn
	times int
}

func (c *halfClosed) CloseWrite() error {
	c.times++
	return c.Conn.CloseWrite()
}

// Each end that comes on one side goes on to the other.
func TestPipePassesBothEnds(t *testing.T) {
	client, a := unixPair(t)
	b, server := unixPair(t)
	client.CloseWrite()
	server.CloseWrite()
	toClient, toServer := &halfClosed{Conn: a}, &halfClosed{Conn: b}
	if err := Pipe(toClient, toServer); err != nil || toClient.times != 1 || toServer.times != 1 {
		t.Errorf("%v; the client was closed %d times, the server %d times", err, toClient.times, toServer.times)
	}
}

func TestPipe(t *testing.T) {
	client, a := unixPair(t)
	b, server := unixPair(t)
	done := make(chan error, 1)
	go func() { done <- Pipe(a, b) }()

	// The server answers only after the request has ended: half-close must pass.
	request := make([]byte, 1<<20)
	rand.Read(request)
	go func() {
		got, _ := io.ReadAll(server)
		server.Write(bytes.ToUpper(got))
		server.Close()
	}()
	go func() {
		client.Write(request)
		client.CloseWrite()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, bytes.ToUpper(request)) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Errorf("Pipe: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Pipe a is open: %v", err)
	}
}

func TestPipeEndsWhenASideBreaks(t *testing.T) {
	client, a := unixPair(t)
	b, server := unixPair(t)
	done := make(chan error, 1)
	go func() { done <- Pipe(a, b) }()
	server.Close() // for good: what the client writes has nowhere to go
	for range 1000 {
		if _, err := client.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := <-done; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Pipe: %v", err)
	}
}

func TestAddr(t *testing.T) {
	a := Addr{CIDParent, 9000}
	if a.Network() != "vsock" || a.String() != "vsock://3:9000" {
		t.Errorf("%s %s", a.Network(), a)
	}
}
