package enclavehost

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/filestore"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// launched runs the host and returns its guest, ready.
func (m *machine) launched(s *setup) *guest {
	m.t.Helper()
	s.run(m.t, quick)
	s.w.signs(m.t)
	return m.guests()[0]
}

func at(height int64) watermark.Mark {
	return watermark.Mark{Height: height, Step: watermark.StepPrecommit, SignBytes: []byte{1, 2, 3}}
}

func TestStateIsKept(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	g := m.launched(s)
	store := g.store(chain1)
	defer store.Close()
	saved, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if saved, err = store.Replace(t.Context(), saved, at(5)); err != nil {
		t.Fatal(err)
	}
	kept, err := hostlink.ReadRecord(s.fake.Saved().Mark.SignBytes)
	if err != nil || kept.Seq != 2 || !kept.Mark.Equal(at(5)) {
		t.Errorf("kept %+v, %v", kept, err)
	}
	s.w.until(t, "the record was reported", func() bool { return cmp.Equal(s.w.acked, []uint64{2}) })

	// A disk that fails: an error, no acknowledgement; then it works again.
	s.fake.Script(storetest.Before)
	if _, err := store.Replace(t.Context(), saved, at(6)); err == nil || !strings.Contains(err.Error(), "the host cannot keep the state") {
		t.Errorf("on a failing disk: %v", err)
	}
	if saved, err = store.Load(t.Context()); err != nil || saved.Mark.Height != 6 {
		t.Errorf("loaded %+v, %v", saved, err)
	}
	if _, err = store.Replace(t.Context(), saved, at(7)); err != nil {
		t.Error(err)
	}
}

// The state outlives the enclave, and an older record does not get past it.
func TestStateAcrossLives(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	g := m.launched(s)
	store := g.store(chain1)
	saved, err := store.Load(t.Context())
	if err == nil {
		_, err = store.Replace(t.Context(), saved, at(5))
	}
	if err != nil {
		t.Fatal(err)
	}
	g.kill()
	m.until("a second life", func() bool { return m.launches == 2 && len(m.running) == 1 })
	g = m.guests()[0]
	g.mustDial(hostlink.StatePort).Close()
	next := g.store(chain1)
	if saved, err := next.Load(t.Context()); err != nil || saved.Version != 2 || saved.Mark.Height != 5 {
		t.Errorf("loaded %+v, %v", saved, err)
	}
}

func TestUnknownStateIsRefused(t *testing.T) {
	m := newMachine(t)
	g := m.launched(m.setup())
	for _, id := range []watermark.ID{{ChainID: "chain-1", Key: [32]byte{6}}, {ChainID: "chain-2", Key: chain1.Key}} {
		if _, err := g.store(id).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "do key file and state belong together?") {
			t.Errorf("%v: %v", id, err)
		}
	}
}

// Two processes cannot both keep a state: the second one does not get its file.
func TestTwoHostsOnOneState(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	// Under the package: temporary folders may lie in memory, where no state may.
	dir, err := os.MkdirTemp(".", ".state")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := filestore.Config{Path: filepath.Join(dir, "chain-1.mark"), ID: chain1}
	if err := filestore.Create(c, s.fake.Saved()); errors.Is(err, filestore.ErrPlatform) || errors.Is(err, filestore.ErrUnsafe) {
		t.Skipf("no file system for states here: %v; run the tests on a local disk", err)
	} else if err != nil {
		t.Fatal(err)
	}
	store, err := filestore.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s.config.Chains[0].Store = store
	g := m.launched(s)
	inside := g.store(chain1)
	saved, err := inside.Load(t.Context())
	if err == nil {
		_, err = inside.Replace(t.Context(), saved, at(5))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := filestore.Open(t.Context(), c); !errors.Is(err, filestore.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
}

// node plays a node that says who it is and echoes.
func node(t *testing.T, network, address string) string {
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, network)
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestNodes(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	socket := node(t, "unix", filepath.Join(m.dir, "node.sock"))
	uid, nobody := uint32(os.Geteuid()), uint32(12345)
	s.config.Chains[0].Nodes = []Node{
		{Name: "unix", Network: "unix", Address: socket, PeerUID: &uid},
		{Name: "tcp", Network: "tcp", Address: node(t, "tcp", "127.0.0.1:0")},
		{Name: "intruder", Network: "unix", Address: socket, PeerUID: &nobody},
		{Name: "down", Network: "unix", Address: filepath.Join(m.dir, "nobody.sock")},
	}
	g := m.launched(s)
	for _, name := range []string{"unix", "tcp"} {
		opened := make(chan struct{})
		s.w.late = func() {
			select {
			case <-opened:
			case <-time.After(50 * time.Millisecond): // the enclave waits for the report
			}
		}
		conn := g.mustDial(hostlink.NodePort)
		if err := hostlink.OpenNode(conn, hostlink.NodeHello{ChainID: "chain-1", Node: name}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.w.mu.Lock()
		if !slices.Contains(s.w.nodes, name+" parked") {
			t.Errorf("%s is connected, and reported as %q", name, s.w.nodes)
		}
		s.w.mu.Unlock()
		close(opened)
		io.WriteString(conn, " says hello")
		conn.CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != name+" says hello" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, c := range []struct{ chain, node, want string }{
		{"chain-1", "down", "no such file"},
		{"chain-1", "intruder", "peer_uid is 12345"},
		{"chain-1", "other", "no node"},
		{"chain-2", "unix", "no node"},
		{"", "", "no node"},
		{"chain-1", strings.Repeat("x", 500), "no node"},
	} {
		err := hostlink.OpenNode(g.mustDial(hostlink.NodePort), hostlink.NodeHello{ChainID: c.chain, Node: c.node})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %q: %v", c.node, c.chain, err)
		}
	}
}

// Nodes are out of reach while the chain's witness holds it back; an alarm cuts those
// connections that stand.
func TestNodesAreHeldBack(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	held, cut := atomic.Pointer[error]{}, make(chan struct{})
	why := errors.New("in quarantine")
	held.Store(&why)
	c := &s.config.Chains[0]
	c.Nodes = []Node{{Name: "unix", Network: "unix", Address: node(t, "unix", filepath.Join(m.dir, "node.sock"))}}
	c.Cut = cut
	c.Closed = func() error {
		if err := held.Load(); err != nil {
			return *err
		}
		return nil
	}
	g := m.launched(s)
	hello := hostlink.NodeHello{ChainID: "chain-1", Node: "unix"}
	if err := hostlink.OpenNode(g.mustDial(hostlink.NodePort), hello); err == nil || !strings.Contains(err.Error(), "in quarantine") {
		t.Errorf("held back: %v", err)
	}
	held.Store(nil)
	conn := g.mustDial(hostlink.NodePort)
	if err := hostlink.OpenNode(conn, hello); err != nil {
		t.Fatal(err)
	}
	close(cut)
	io.ReadAll(conn) // until the end, which the cut makes
}

// The proxy reaches the one host of the policy, whatever the enclave sends.
func TestKMSProxy(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.KMS.Endpoint = policy.Endpoint{Service: "KMS", Address: node(t, "tcp", "127.0.0.1:0"), Test: true}
	g := m.launched(s)
	conn := g.mustDial(hostlink.KMSPort)
	request := []byte("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
	conn.Write(request)
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); !bytes.Equal(got, append([]byte("tcp"), request...)) || err != nil {
		t.Errorf("%q, %v", got, err)
	}

	// At most eight at once; the next one is closed unread.
	var open []vsock.Conn
	for end := time.Now().Add(time.Minute); len(open) < maxKMS; {
		c := g.mustDial(hostlink.KMSPort)
		if _, err := io.ReadFull(c, make([]byte, 3)); err == nil {
			open = append(open, c)
		} else if time.Now().After(end) { // the one above has left its place
			t.Fatalf("%d at once: %v", len(open)+1, err)
		}
	}
	if n, err := g.mustDial(hostlink.KMSPort).Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("one connection too many")
	}
	for _, c := range open {
		c.Close()
	}
	for end := time.Now().Add(time.Minute); ; {
		c := g.mustDial(hostlink.KMSPort)
		n, _ := c.Read(make([]byte, 3))
		c.Close()
		if n == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the slots are not free again")
		}
	}
}

func TestKMSOutOfReach(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	g := m.launched(s)
	if _, err := g.mustDial(hostlink.KMSPort).Read(make([]byte, 1)); err == nil {
		t.Error("connected")
	}
	if log := s.logs.String(); !strings.Contains(log, "cannot reach KMS") || !strings.Contains(log, "is this instance allowed to reach 127.0.0.1:1?") {
		t.Errorf("the log:\n%s", log)
	}
}

// The image may be anybody's, and its policy names what the host connects it to: no
// service of this host, by whatever name, and nothing but port 443.
func TestNoTunnelIntoTheHost(t *testing.T) {
	target := node(t, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		test    bool
		want    string // "" connects
	}{
		{target, true, ""},
		{"localhost:" + port, true, ""},
		{target, false, "port"},
		{"localhost:" + port, false, "port"},
		{"127.0.0.1:443", false, "is this host"},
		{"localhost:443", false, "is this host"},
		{"127.8.9.10:443", false, "is this host"},
		{"[::1]:443", false, "is this host"},
		{"[::ffff:127.0.0.1]:443", false, "is this host"},
		{"0.0.0.0:443", false, "is this host"},
		{"0.0.0.0:" + port, true, "is this host"},
		{"169.254.169.254:80", false, "port"},
		{"169.254.169.254:443", false, "metadata service"},
		{"169.254.169.254:80", true, "metadata service"},
		{"[::ffff:169.254.169.254]:80", true, "metadata service"},
		{"[fd00:ec2::254]:80", true, "metadata service"},
		{"[fe80::1%lo]:443", false, "metadata service"},
	} {
		inside, outside := tcpPair(t)
		done := make(chan error, 1)
		go func() {
			done <- ProxyAWS(t.Context(), inside, policy.Endpoint{Service: "KMS", Address: c.address, Test: c.test}, 10*time.Second)
			inside.Close()
		}()
		outside.CloseWrite()
		got, _ := io.ReadAll(outside)
		err := <-done
		if c.want == "" && (err != nil || string(got) != "tcp") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(got) > 0) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// tcpPair returns two ends of a connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.Close(); other.Close() })
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

// A connection to KMS does not live forever.
func TestKMSConnectionEnds(t *testing.T) {
	target := node(t, "tcp", "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			err = ProxyAWS(context.Background(), conn.(*net.TCPConn), policy.Endpoint{Service: "KMS", Address: target, Test: true}, 30*time.Millisecond)
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Garbage on every port ends that connection, and nothing else.
func TestGarbageAndFloods(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.Chains[0].Nodes = []Node{{Name: "unix", Network: "unix", Address: node(t, "unix", filepath.Join(m.dir, "node.sock"))}}
	g := m.launched(s)
	garbage := make([]byte, 4096)
	for _, port := range []uint32{hostlink.StatePort, hostlink.NodePort, hostlink.LogPort} {
		for range 40 {
			rand.Read(garbage)
			garbage[0] = 0xff // the length of a frame far over the limit
			conn := g.mustDial(port)
			conn.Write(garbage)
			conn.Write([]byte("\n"))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("port %d: garbage is waited for", port)
			}
			conn.Close()
		}
		// Silent ones, up to the limit of the port and over it.
		for range 50 {
			g.mustDial(port)
		}
	}
	// Those that hold nothing but a place are put out after a while; here the
	// enclave ends them itself.
	g.kill()
	m.until("a second life", func() bool { return m.launches == 2 && len(m.running) == 1 })
	g = m.guests()[0]
	g.mustDial(hostlink.StatePort).Close()
	if _, err := g.store(chain1).Load(t.Context()); err != nil {
		t.Error(err)
	}
}

func line(t *testing.T, l hostlink.Line) []byte {
	t.Helper()
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLinesOfTheEnclave(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.Chains[0].Nodes = []Node{{Name: "a", Network: "unix", Address: "/nowhere"}}
	g := m.launched(s)
	conn := g.mustDial(hostlink.LogPort)
	for _, l := range []hostlink.Line{
		{Log: &hostlink.LogRecord{Level: 1000, Message: "from inside\nlevel=ERROR msg=forged", Attrs: [][2]string{{"key", "va\nlue"}}}},
		{Event: &hostlink.Event{ChainID: "chain-1", Node: "invented", Kind: "prevote"}},
		{Event: &hostlink.Event{ChainID: "invented", Node: "a", Kind: "prevote"}},
		{Node: &hostlink.NodeChange{ChainID: "chain-1", Node: "invented", State: "serving"}},
		{Event: &hostlink.Event{ChainID: "chain-1", Node: "a", Kind: "prevote", Height: 5}},
		{Node: &hostlink.NodeChange{ChainID: "chain-1", Node: "a", State: "serving", Error: "oh"}},
	} {
		conn.Write(line(t, l))
	}
	s.w.until(t, "the last line", func() bool { return len(s.w.nodes) > 0 })
	if len(s.w.events) != 1 || s.w.events[0].Height != 5 || s.w.nodes[0] != "a serving" {
		t.Errorf("events %v, nodes %v", s.w.events, s.w.nodes)
	}
	if log := s.logs.String(); !strings.Contains(log, `level=ERROR msg="from inside\nlevel=ERROR msg=forged" key="va\nlue"`) {
		t.Errorf("the log:\n%s", log)
	}
	// A line that is not a log line ends the connection.
	io.WriteString(conn, "{}\n")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after garbage: %v", err)
	}
}

// stalled is a slog.Handler that hangs on what comes from inside.
type stalled struct {
	slog.Handler
	hang chan struct{}
	here chan struct{}
}

func (h stalled) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "from inside" {
		select {
		case h.here <- struct{}{}:
		default:
		}
		<-h.hang
	}
	return h.Handler.Handle(ctx, r)
}

// Whoever reads the log may hang: state, nodes and control go on.
func TestStalledLogReader(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	h := stalled{s.config.Log.Handler(), make(chan struct{}), make(chan struct{}, 1)}
	s.config.Log = slog.New(h)
	defer close(h.hang)
	s.config.Chains[0].Nodes = []Node{{Name: "unix", Network: "unix", Address: node(t, "unix", filepath.Join(m.dir, "node.sock"))}}
	g := m.launched(s)
	logs := g.mustDial(hostlink.LogPort)
	b := line(t, hostlink.Line{Log: &hostlink.LogRecord{Message: "from inside"}})
	for range 3 {
		logs.Write(b)
	}
	<-h.here
	store := g.store(chain1)
	saved, err := store.Load(t.Context())
	for height := int64(1); err == nil && height <= 50; height++ {
		saved, err = store.Replace(t.Context(), saved, at(height))
	}
	if err != nil {
		t.Error(err)
	}
	if err := hostlink.OpenNode(g.mustDial(hostlink.NodePort), hostlink.NodeHello{ChainID: "chain-1", Node: "unix"}); err != nil {
		t.Error(err)
	}
}

func TestLogFlood(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.Chains[0].Nodes = []Node{{Name: "a", Network: "unix", Address: "/nowhere"}}
	g := m.launched(s)
	conn := g.mustDial(hostlink.LogPort)
	b := line(t, hostlink.Line{Log: &hostlink.LogRecord{Message: "flood"}})
	b = bytes.Repeat(b, 20*floodBurst)
	conn.Write(b)
	conn.Write(line(t, hostlink.Line{Event: &hostlink.Event{ChainID: "chain-1", Node: "a", Kind: "prevote"}}))
	s.w.until(t, "what came behind the flood", func() bool { return len(s.w.events) == 1 })
	if n := strings.Count(s.logs.String(), "msg=flood"); n < floodBurst || n > 3*floodBurst {
		t.Errorf("%d of %d lines were logged", n, 20*floodBurst)
	}
}

// The enclave is connected to members of etcd that the config names, and to nothing else.
func TestMembersOfEtcd(t *testing.T) {
	member, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	go func() {
		for {
			conn, err := member.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	m := newMachine(t)
	s := m.setup()
	s.config.Etcd = &Etcd{
		Endpoints:   []string{"https://" + member.Addr().String(), "https://" + closed.Addr().String()},
		Certificate: func() ([]byte, error) { return []byte("certificate"), nil },
	}
	g := m.launched(s)

	conn := g.mustDial(hostlink.EtcdPort)
	defer conn.Close()
	if err := hostlink.OpenEtcd(conn, hostlink.EtcdHello{Address: member.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 1<<16)
	rand.Read(sent)
	go func() {
		conn.Write(sent)
		conn.CloseWrite()
	}()
	if back, err := io.ReadAll(conn); err != nil || !bytes.Equal(back, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(back), len(sent), err)
	}
	for address, want := range map[string]string{
		other.Addr().String(): "no member", "": "no member", closed.Addr().String(): "refused",
	} {
		conn := g.mustDial(hostlink.EtcdPort)
		if err := hostlink.OpenEtcd(conn, hostlink.EtcdHello{Address: address}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", address, err)
		}
		conn.Close()
	}
}

// A host listens for what its enclave may ask for, and for nothing else.
func TestPorts(t *testing.T) {
	serves := func(c Config) bool {
		return slices.ContainsFunc((&Host{Config: c}).ports(), func(p port) bool { return p.number == hostlink.EtcdPort })
	}
	if serves(Config{}) || !serves(Config{Etcd: &Etcd{}}) {
		t.Error("the port of etcd is served without one, or not with one")
	}
}
