package secretconn_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
)

var update = flag.Bool("update", false, "write the golden file instead of comparing with it")

// TestGolden lets CometBFT talk to itself with fixed keys and compares what
// both sides sent with testdata of privyseal/internal/secretconn.
func TestGolden(t *testing.T) {
	draws := &drawer{}
	old := rand.Reader
	rand.Reader = draws
	defer func() { rand.Reader = old }()

	version := cometVersion(t)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Handshakes of CometBFT %s with itself, made by test/interop/secretconn.\n", version)
	// Until both orders of the ephemeral keys are there.
	for orders := map[bool]bool{}; len(orders) < 2; {
		h := record(t, draws)
		if orders[h.aIsLower] {
			continue
		}
		orders[h.aIsLower] = true
		fmt.Fprintf(&b, "\n%s", h.text)
	}
	path := filepath.Join("..", "..", "..", "internal", "secretconn", "testdata", version+".txt")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("CometBFT sends other bytes than %s has; look, then run again with -update", path)
	}
}

// cometVersion returns the version in the path of CometBFT's source, for test
// binaries carry no list of modules.
func cometVersion(t *testing.T) string {
	t.Helper()
	file, _ := runtime.FuncForPC(reflect.ValueOf(conn.MakeSecretConnection).Pointer()).FileLine(0)
	_, rest, _ := strings.Cut(file, "cometbft@")
	version, _, found := strings.Cut(rest, "/")
	if !found {
		t.Fatalf("no version in %s", file)
	}
	return version
}

// drawer is randomness that can be foretold: each Read gets the hash of its
// number. It remembers the last one.
type drawer struct {
	count uint64
	last  []byte
}

func (d *drawer) Read(p []byte) (int, error) {
	if len(p) != sha256.Size {
		return 0, fmt.Errorf("draw of %d bytes, want %d", len(p), sha256.Size)
	}
	d.count++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("draw"), d.count))
	d.last = sum[:]
	return copy(p, sum[:]), nil
}

// recorder keeps what is written, and says when the first bytes were.
type recorder struct {
	net.Conn
	sent  bytes.Buffer
	first chan struct{}
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.sent.Len() == 0 {
		close(r.first)
	}
	r.sent.Write(p)
	return r.Conn.Write(p)
}

type handshake struct {
	aIsLower bool
	text     string
}

// record runs one handshake with one message each way. The first message
// fills a record, the second leaves stale padding, which is CometBFT's habit.
func record(t *testing.T, draws *drawer) handshake {
	t.Helper()
	connA, connB := tcpPair(t)
	a := side{name: "a", conn: &recorder{Conn: connA, first: make(chan struct{})}, done: make(chan error, 1)}
	b := side{name: "b", conn: &recorder{Conn: connB, first: make(chan struct{})}, done: make(chan error, 1)}
	a.start(draws)
	b.start(draws)
	for _, s := range []*side{&a, &b} {
		if err := <-s.done; err != nil {
			t.Fatal(err)
		}
	}
	if err := say(a.secured, b.secured, a.said); err != nil {
		t.Fatal(err)
	}
	if err := say(b.secured, a.secured, b.said); err != nil {
		t.Fatal(err)
	}
	pubA, pubB := a.conn.sent.Bytes()[3:35], b.conn.sent.Bytes()[3:35]
	return handshake{bytes.Compare(pubA, pubB) < 0, a.text() + b.text()}
}

type side struct {
	name      string
	seed      [32]byte // of the identity
	key       cmted25519.PrivKey
	ephemeral []byte
	said      []byte
	conn      *recorder
	secured   *conn.SecretConnection
	done      chan error
}

// start begins the handshake and returns when this side has drawn its
// ephemeral key and sent it.
func (s *side) start(draws *drawer) {
	s.seed = sha256.Sum256(fmt.Appendf(nil, "identity %s %d", s.name, draws.count))
	s.key = cmted25519.PrivKey(ed25519.NewKeyFromSeed(s.seed[:]))
	s.said = bytes.Repeat([]byte(s.name+"!"), 1500/2)
	go func() {
		var err error
		s.secured, err = conn.MakeSecretConnection(s.conn, s.key)
		s.done <- err
	}()
	<-s.conn.first
	s.ephemeral = draws.last
}

func (s *side) text() string {
	var b bytes.Buffer
	line := func(name string, value []byte) { fmt.Fprintf(&b, "%s.%s %x\n", s.name, name, value) }
	line("ephemeral", s.ephemeral)
	line("identity", s.seed[:])
	fmt.Fprintf(&b, "%s.id %s\n", s.name, p2p.PubKeyToID(s.key.PubKey()))
	line("said", s.said)
	line("sent", s.conn.sent.Bytes())
	return b.String()
}
