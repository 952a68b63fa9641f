package noiseconn_test

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
	"sync"
	"testing"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/privval"
	"github.com/libp2p/go-libp2p/core/peer"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// golden compares text with a file in testdata of privyseal/internal/noiseconn.
func golden(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "..", "internal", "noiseconn", "testdata", name)
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("CometBFT says other bytes than %s has; look, then run again with -update", path)
	}
}

func TestGoldenPeerIDs(t *testing.T) {
	var b bytes.Buffer
	fmt.Fprintln(&b, "# Ed25519 public keys and the peer ids that CometBFT v0.40.0 gives them, made by test/interop/noiseconn.")
	for i := range 32 {
		seed := sha256.Sum256(fmt.Appendf(nil, "peer %d", i))
		key := ed25519.NewKeyFromSeed(seed[:])
		fmt.Fprintf(&b, "%x %s\n", key.Public(), libp2pID(t, key))
	}
	golden(t, "peerids.txt", b.Bytes())
}

// drawer is randomness that can be foretold: each Read gets the hash of its
// number. It remembers everything that was drawn.
type drawer struct {
	mu    sync.Mutex
	drawn []byte
}

func (d *drawer) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(p) != sha256.Size {
		return 0, fmt.Errorf("draw of %d bytes, want %d", len(p), sha256.Size)
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("draw"), uint64(len(d.drawn))))
	d.drawn = append(d.drawn, sum[:]...)
	return copy(p, sum[:]), nil
}

// recorder keeps what is written, and says when the first bytes were.
type recorder struct {
	net.Conn
	sent  bytes.Buffer
	first chan struct{}
}

func newRecorder(conn net.Conn) *recorder {
	return &recorder{Conn: conn, first: make(chan struct{})}
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.sent.Len() == 0 {
		close(r.first)
	}
	r.sent.Write(p)
	return r.Conn.Write(p)
}

// recordingListener gives out recorders.
type recordingListener struct {
	net.Listener
	conns chan *recorder
}

func (l recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := newRecorder(c)
	l.conns <- r
	return r, nil
}

// TestGolden lets CometBFT's dialler talk to its listener with fixed keys and
// compares what both sent.
func TestGolden(t *testing.T) {
	draws := &drawer{}
	old := rand.Reader
	rand.Reader = draws
	defer func() { rand.Reader = old }()

	seeds := [2][32]byte{sha256.Sum256([]byte("signer")), sha256.Sum256([]byte("node"))}
	signerKey, nodeKey := ed25519.NewKeyFromSeed(seeds[0][:]), ed25519.NewKeyFromSeed(seeds[1][:])
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	recording := recordingListener{ln, make(chan *recorder, 1)}
	nl, err := privval.NewNoiseListener(recording, cmted25519.PrivKey(nodeKey), []peer.ID{libp2pID(t, signerKey)})
	if err != nil {
		t.Fatal(err)
	}
	signer := newRecorder(dial(t, ln.Addr().String()))
	dialled := make(chan accepted, 1)
	go func() {
		c, err := dialLibp2p(signer, signerKey, libp2pID(t, nodeKey))
		dialled <- accepted{c, err}
	}()
	// The dialler has drawn its two keys before it sends.
	<-signer.first
	random := bytes.Clone(draws.drawn)
	theirs, err := nl.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours := <-dialled
	if ours.err != nil {
		t.Fatal(ours.err)
	}
	if err := say(ours.conn, theirs, []byte("said by the signer")); err != nil {
		t.Fatal(err)
	}
	if err := say(theirs, ours.conn, []byte("said by the node")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprint(&b, "# A handshake of CometBFT v0.40.0's listener with libp2p's dialler, made by test/interop/noiseconn.\n\n")
	fmt.Fprintf(&b, "signer.identity %x\nsigner.id %s\nsigner.random %x\n", seeds[0], libp2pID(t, signerKey), random)
	fmt.Fprintf(&b, "signer.said %x\nsigner.sent %x\n", "said by the signer", signer.sent.Bytes())
	fmt.Fprintf(&b, "node.id %s\nnode.said %x\nnode.sent %x\n", libp2pID(t, nodeKey), "said by the node", (<-recording.conns).sent.Bytes())
	golden(t, "v0.40.0.txt", b.Bytes())
}
