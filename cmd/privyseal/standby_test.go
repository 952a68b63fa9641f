package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// TestStandby kills the signer a hundred times with a standby waiting beside
// it. The standby takes over each time, and what the two release together
// never conflicts: the node asks whoever comes next for another block at the
// height that the dead one was working on.
func TestStandby(t *testing.T) {
	turns := 100
	if testing.Short() {
		turns = 10
	}
	home := filepath.Join(diskDir(t), "home")
	socket := filepath.Join(filepath.Dir(home), "node.sock")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix://"+socket)
	noMetrics(t, home)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	node := &hostileNode{released: map[string]byte{}}
	active := startSigner(t, home)
	for turn := range turns {
		l.SetDeadline(time.Now().Add(patience))
		conn, err := l.Accept()
		if err != nil {
			t.Fatalf("turn %d: nobody took over: %v\n%s", turn, err, active.log.String())
		}
		standby := startSigner(t, home, "--standby")
		// The end of a connection is the end of the signer; the kill lands
		// anywhere between two of its system calls. How long the first answer
		// takes is up to the machine, so most turns count from there.
		kill := func() {
			time.AfterFunc(time.Duration(turn%20)*time.Millisecond, func() { active.cmd.Process.Kill() })
		}
		answered := kill
		if turn%4 == 3 {
			kill()
			answered = func() {}
		}
		if err := node.ask(conn, answered); err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		conn.Close()
		active.cmd.Wait()
		active = standby
	}
	t.Logf("%d marks in %d turns, %d times another block was refused", len(node.released), turns, node.refused)
	if node.refused < turns/2 {
		t.Error("most turns ended without a released signature: nothing was tested")
	}
}

// hostileNode asks for votes at rising heights until the connection ends. It
// starts each connection with another block, at the height that was answered
// last.
type hostileNode struct {
	height   int64
	block    byte
	released map[string]byte // height/round/step → the one block that was signed
	refused  int
}

// ask calls answered once, after the first answer.
func (n *hostileNode) ask(conn net.Conn, answered func()) error {
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	n.block++
	n.height = max(n.height-1, 1)
	for {
		req := privval.Request{
			Kind: privval.KindPrevote, ChainID: "chain-1", Height: n.height,
			Timestamp: privval.Timestamp{Seconds: time.Now().Unix()},
			BlockID:   privval.BlockID{Hash: bytes.Repeat([]byte{n.block}, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
		}
		resp, err := privvaltest.Call(conn, r, req)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the signer hangs")
		case err != nil:
			return nil // it was killed
		case resp.Refused != "":
			n.refused++
		default:
			hrs := fmt.Sprintf("%d/0/prevote", n.height)
			if before, ok := n.released[hrs]; ok && before != n.block {
				return fmt.Errorf("two blocks were signed at %s", hrs)
			}
			n.released[hrs] = n.block
		}
		n.height++
		answered()
		answered = func() {}
	}
}

// TestLocked shows that a second signer in the same home folder ends at once,
// with the status that lets systemd try again.
func TestLocked(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix://"+filepath.Join(home, "node.sock"))
	noMetrics(t, home)
	first := startSigner(t, home)
	first.waitReady(t)
	cmd := exec.Command("privyseal", "start", "--home", home)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !bytes.Contains(out, []byte("--standby")) {
		t.Errorf("second signer: %v\n%s", err, out)
	}
	first.cmd.Process.Signal(syscall.SIGTERM)
	if err := first.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, first.log.String())
	}
}

// signerProcess is a running `privyseal start`.
type signerProcess struct {
	cmd    *exec.Cmd
	log    *bytes.Buffer
	notify *net.UnixConn
}

func startSigner(t *testing.T, home string, args ...string) *signerProcess {
	t.Helper()
	log := &bytes.Buffer{}
	p := startSignerTo(t, home, log, args...)
	p.log = log
	return p
}

// startSignerTo starts a signer that logs to log.
func startSignerTo(t *testing.T, home string, log io.Writer, args ...string) *signerProcess {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() })
	p := &signerProcess{
		cmd: exec.Command("privyseal", append([]string{"start", "--home", home}, args...)...),
		log: &bytes.Buffer{}, notify: notify,
	}
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "s"))
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

// waitReady waits for what systemd waits for, and returns the rest of that message.
func (p *signerProcess) waitReady(t *testing.T) string {
	t.Helper()
	p.notify.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 256)
	for {
		n, err := p.notify.Read(b)
		if rest, ready := strings.CutPrefix(string(b[:n]), "READY=1\n"); ready {
			return rest
		}
		if err != nil || !bytes.HasPrefix(b[:n], []byte("STATUS=")) {
			p.cmd.Process.Kill()
			p.cmd.Wait()
			t.Fatalf("not ready: %q, %v\n%s", b[:n], err, p.log.String())
		}
	}
}

// noMetrics switches the metrics off, which would want the same port in every
// test.
func noMetrics(t *testing.T, home string) {
	t.Helper()
	if err := noListen(filepath.Join(home, "privyseal.toml")); err != nil {
		t.Fatal(err)
	}
}

// runCommand runs a command that has to succeed and returns what it prints.
func runCommand(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
