package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// newChainNode is the RPC of a node before its first block. It reports each question.
func newChainNode(t *testing.T) (addr string, asked <-chan struct{}) {
	seen := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case seen <- struct{}{}:
		default:
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":-1,"result":{"node_info":{"network":"chain-1"},"sync_info":{"latest_block_height":"0","catching_up":false}}}`)
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

// A signer with a witness signs as soon as that has answered, and takes up others by
// SIGHUP without a pause.
func TestWitnessIsReloaded(t *testing.T) {
	home := filepath.Join(diskDir(t), "home")
	socket := filepath.Join(filepath.Dir(home), "node.sock")
	first, _ := newChainNode(t)
	second, asked := newChainNode(t)
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-1", "--node", "unix://"+socket, "--witness", first)
	noMetrics(t, home)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := startSigner(t, home)
	l.SetDeadline(time.Now().Add(time.Minute))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	vote := func(height int64) {
		t.Helper()
		resp, err := privvaltest.Call(conn, r, privval.Request{
			Kind: privval.KindPrevote, ChainID: "chain-1", Height: height, Timestamp: privval.Timestamp{Seconds: 1},
			BlockID: privval.BlockID{Hash: make([]byte, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
		})
		if err != nil || resp.Refused != "" {
			t.Fatalf("height %d: %q, %v\n%s", height, resp.Refused, err, p.log)
		}
	}
	vote(1)
	path := filepath.Join(home, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte(first), []byte(second), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGHUP)
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatalf("the new witness was not asked\n%s", p.log)
	}
	vote(2)
	if s := runCommand(t, "privyseal", "status", "--home", home, "--json"); !bytes.Contains([]byte(s), []byte(second)) || bytes.Contains([]byte(s), []byte(first)) {
		t.Errorf("status:\n%s", s)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
}
