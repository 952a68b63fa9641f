// Command probe is an enclave's program that proves the rig, and the rooms of
// privyseal that work only inside an enclave: it runs as PID 1, sends the
// heartbeat, and does what it is asked at port 7001. It is in no shipped image.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/nitro/nsm"
	"privyseal/internal/vsock"
)

const (
	portHeartbeat = 9000
	portEcho      = 7000
	portCommand   = 7001
	portSelf      = 7002 // of the self test; nobody listens there before
	portReserved  = 900
)

func main() {
	if err := run(); err != nil {
		fmt.Println("probe: FAILED:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func run() error {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("cannot mount %s: %w", m[1], err)
		}
	}
	fmt.Println("probe: first line")
	echo, err := vsock.Listen(portEcho)
	if err != nil {
		return err
	}
	commands, err := vsock.Listen(portCommand)
	if err != nil {
		return err
	}
	if err := beat(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	fmt.Println("probe: heartbeat answered")
	go serve(echo, func(c vsock.Conn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
	serve(commands, command)
	return nil
}

func serve(l net.Listener, handle func(vsock.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c.(vsock.Conn))
		}()
	}
}

func beat() error {
	c, err := vsock.Dial(context.Background(), vsock.CIDParent, portHeartbeat)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{0xb7}); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 0xb7 {
		return fmt.Errorf("answer %x, %w", b, err)
	}
	return nil
}

// command answers one line: "ok" and hex of the result, or "error" and why.
func command(c vsock.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	out, err := do(strings.Fields(line))
	if err != nil {
		fmt.Fprintf(c, "error %v\n", err)
		return
	}
	fmt.Fprintf(c, "ok %x\n", out)
}

func do(words []string) ([]byte, error) {
	switch {
	case len(words) == 2 && words[0] == "pcr":
		i, err := strconv.Atoi(words[1])
		if err != nil {
			return nil, err
		}
		return module(func(d *nsm.Device) ([]byte, error) {
			p, err := d.DescribePCR(i)
			return p.Value, err
		})
	case len(words) == 4 && words[0] == "attest":
		var fields [3][]byte // user data, nonce, public key
		for i := range fields {
			b, err := hex.DecodeString(strings.TrimPrefix(words[1+i], "-"))
			if err != nil {
				return nil, err
			}
			if words[1+i] != "-" {
				fields[i] = b
			}
		}
		return module(func(d *nsm.Device) ([]byte, error) { return d.Attest(fields[0], fields[1], fields[2]) })
	case len(words) == 1 && words[0] == "random":
		return module(func(d *nsm.Device) ([]byte, error) { return d.Random(1000) })
	case len(words) == 2 && words[0] == "read":
		return os.ReadFile(words[1])
	case len(words) == 3 && words[0] == "dial":
		return dial(words[1], words[2])
	case len(words) == 1 && words[0] == "memory":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return strconv.AppendUint(nil, m.Sys, 10), nil
	case len(words) == 1 && words[0] == "panic":
		os.Exit(2) // as a Go panic does; of the first process it is one of the kernel
	case len(words) == 1 && words[0] == "devour":
		devour()
	case len(words) == 1 && words[0] == "selftest":
		return nil, errors.Join(selfTest()...)
	case len(words) == 1 && words[0] == "reboot":
		unix.Sync()
		return nil, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return nil, fmt.Errorf("there is no %q", words)
}

// devour takes all memory there is, and never has enough.
func devour() {
	for eaten := [][]byte{}; ; {
		piece := make([]byte, 1<<20)
		for i := 0; i < len(piece); i += 1 << 10 {
			piece[i] = 1
		}
		eaten = append(eaten, piece)
	}
}

func module(ask func(*nsm.Device) ([]byte, error)) ([]byte, error) {
	d, err := nsm.Open("/dev/nsm")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return ask(d)
}

// dial sends so many bytes to a port of the parent, which answers with the same
// in return, and measures one byte's way there and back.
func dial(port, size string) ([]byte, error) {
	p, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		return nil, err
	}
	c, err := vsock.Dial(context.Background(), vsock.CIDParent, uint32(p))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	const rounds = 200
	started := time.Now()
	for range rounds {
		if _, err := c.Write([]byte{1}); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return nil, err
		}
	}
	trip := time.Since(started) / rounds
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	started = time.Now()
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, data) {
		return nil, fmt.Errorf("%d of %d bytes came back, or others", len(got), n)
	}
	return fmt.Appendf(nil, "a round trip of %v; %d bytes there and back in %v", trip, n, time.Since(started)), nil
}

// selfTest tests what package vsock promises of AF_VSOCK, which only a guest has.
func selfTest() (failed []error) {
	check := func(what string, got, want error) {
		if !errors.Is(got, want) {
			failed = append(failed, fmt.Errorf("%s: got %w, want %w", what, got, want))
		}
	}
	_, err := vsock.Dial(context.Background(), vsock.CIDParent, portSelf)
	check("dialling a port where nobody listens", err, unix.ECONNRESET)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = vsock.Dial(ctx, vsock.CIDParent, portEcho)
	check("dialling with a cancelled context", err, context.Canceled)

	l, err := vsock.Listen(portSelf)
	if err != nil {
		return append(failed, err)
	}
	_, err = vsock.Listen(portSelf)
	check("listening twice", err, unix.EADDRINUSE)
	accepted := make(chan error)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	l.Close()
	check("Accept of a closed listener", <-accepted, net.ErrClosed)

	c, err := vsock.DialReserved(context.Background(), vsock.CIDParent, portHeartbeat)
	if err != nil {
		return append(failed, err)
	}
	if a, ok := c.LocalAddr().(vsock.Addr); !ok || a.Port >= 1024 {
		failed = append(failed, fmt.Errorf("dialled from the port of %v", c.LocalAddr()))
	}
	c.Close()
	check("serving an enclave with the capability", vsock.Host{}.MayServe(), nil)
	failed = append(failed, asAnybody(func() {
		check("serving an enclave without the capability", vsock.Host{}.MayServe(), unix.EACCES)
		_, err := vsock.Listen(portReserved)
		check("listening on a reserved port without the capability", err, unix.EACCES)
		_, err = vsock.DialReserved(context.Background(), vsock.CIDParent, portHeartbeat)
		check("dialling from a reserved port without the capability", err, unix.EACCES)
	}))

	c, err = vsock.Dial(context.Background(), vsock.CIDParent, portHeartbeat)
	if err != nil {
		return append(failed, err)
	}
	if a, ok := c.RemoteAddr().(vsock.Addr); !ok || a != (vsock.Addr{CID: vsock.CIDParent, Port: portHeartbeat}) {
		failed = append(failed, fmt.Errorf("remote address %v", c.RemoteAddr()))
	}
	if a, ok := c.LocalAddr().(vsock.Addr); !ok || a.Port == 0 {
		failed = append(failed, fmt.Errorf("local address %v", c.LocalAddr()))
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = c.Read(make([]byte, 1))
	check("read after its deadline", err, os.ErrDeadlineExceeded)
	c.SetReadDeadline(time.Time{})
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	c.Close()
	check("Read of a closed connection", <-read, net.ErrClosed)
	_, err = c.Write([]byte{1})
	check("Write to a closed connection", err, net.ErrClosed)
	check("CloseWrite of a closed connection", c.CloseWrite(), net.ErrClosed)
	return failed
}

// asAnybody runs f without capabilities, on a thread that ends with it.
func asAnybody(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread keeps what it lost
		none := [2]unix.CapUserData{}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}
