package hostile

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// etcd is where the marks of a world are: on a real cluster, which the hosts do not have
// in their hands, but the way to it. No two boots of its enclaves may contradict each other.
type etcd struct {
	cluster *etcdtest.Cluster
	client  hostlink.BootEtcd // of all hosts
	nobody  etcdtest.Files    // of a CA that the policy does not know
	carried atomic.Int32      // connections to members, by honest hosts

	mu     sync.Mutex
	signed map[string][]byte // by all boots
}

// ledger checks a signature against all that were ever made.
func (d *etcd) ledger(t *testing.T, at string, signBytes []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.signed[at]; before != nil && !bytes.Equal(before, signBytes) {
		t.Errorf("DOUBLE SIGN: %s, by two boots", at)
	}
	d.signed[at] = signBytes
}

// inEtcd returns a world whose policy has the marks in etcd, an enclave, and a key whose
// mark is there: with the first floor of its host.
func inEtcd(t *testing.T, c *etcdtest.Cluster, change func(*policy.Policy)) (w *world, e *running, v *validator, floor []byte) {
	t.Helper()
	w = newWorld(t)
	w.etcd = &etcd{cluster: c, signed: map[string][]byte{}}
	w.policy.Etcd = policyOf(t, c)
	if change != nil {
		change(w.policy)
	}
	e = w.boot(w.honest(nil))
	w.etcd.client = hostlink.BootEtcd{Key: e.identity(), Endpoints: c.Endpoints()}
	w.etcd.client.Certificate = c.CA.Certify(t, e.certify("signer"))
	v = e.create(chainID)
	made, err := e.share(hostlink.ShareCreate, v, v.first, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.etcd.carried.Load() == 0 {
		t.Fatal("etcd was reached, and not by way of the host")
	}
	return w, e, v, made.Floor
}

// policyOf returns what a policy says of a cluster.
func policyOf(t *testing.T, c *etcdtest.Cluster) policy.Etcd {
	t.Helper()
	ca, err := os.ReadFile(c.CA.File)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(c.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	return policy.Etcd{CA: string(ca), ServerNames: []string{at.Hostname()}, ClusterID: clusterID(t, c), Prefix: c.Prefix()}
}

// clusterID asks as `privyseal nitro image-policy --help` says.
func clusterID(t *testing.T, c *etcdtest.Cluster) string {
	t.Helper()
	var list struct {
		Header struct {
			ID string `json:"cluster_id"`
		}
	}
	if err := json.Unmarshal([]byte(c.Ctl(t, "member", "list", "--write-out=json", "--hex")), &list); err != nil {
		t.Fatal(err)
	}
	return strings.Repeat("0", 16-len(list.Header.ID)) + list.Header.ID
}

// identity has the enclave make a key that is no validator's.
func (e *running) identity() []byte {
	e.w.t.Helper()
	reply, err := e.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519", Credentials: credentials}})
	if err != nil {
		e.w.t.Fatal(err)
	}
	return reply.Created.Wrapped
}

// certify returns the certificate request of the client.
func (e *running) certify(name string) []byte {
	e.w.t.Helper()
	reply, err := e.ask(hostlink.Request{Certify: &hostlink.Certify{Key: e.w.etcd.client.Key, Name: name, Credentials: credentials}})
	if err != nil {
		e.w.t.Fatal(err)
	}
	return reply.Request
}

func (e *running) share(do string, v *validator, state, floor []byte) (*hostlink.Shared, error) {
	e.w.t.Helper()
	reply, err := e.ask(hostlink.Request{Share: &hostlink.Share{
		Do: do, ChainID: v.chain, Wrapped: v.wrapped, State: state, Floor: floor, AfterHeight: 100, Etcd: &e.w.etcd.client, Credentials: credentials,
	}})
	return reply.Shared, err
}

func floorID(v *validator) watermark.ID { return sharedmark.Config{ID: v.id}.FloorID() }

// withFloor returns a disk that holds a floor.
func withFloor(t *testing.T, v *validator, floor []byte) *disk {
	t.Helper()
	d := newDisk(t)
	d.writeAt(t, floorID(v), floor)
	return d
}

// What TestReplayAtBoot shows to work on the records of a host does not with the mark in
// etcd: whatever old floor an enclave is booted with, it goes on where the last one ended,
// and the document says so.
func TestReplayAtBootInEtcd(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	want := fmt.Sprintf("%s/%s/%x", w.policy.Prefix, v.chain, v.id.Key)
	if got := w.etcd.cluster.Ctl(t, "get", "--prefix", "--keys-only", w.policy.Prefix+"/"); strings.TrimSpace(got) != want {
		t.Errorf("the marks are at %q, not %s", got, want)
	}
	d := withFloor(t, v, first)
	e.meet(w.honest(d))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := e.node(v)
	for height := range int64(10) {
		n.signs(height+1, 1)
	}
	before := e.attest(v)
	e.halt()

	for height := int64(10); height < 30; height += 10 {
		e = w.boot(w.honest(withFloor(t, v, first)))
		if s := e.boot(v); s.Problem != "" {
			t.Fatal(s.Problem)
		}
		n = e.node(v)
		for below := range height {
			n.refuses(below+1, 3)
		}
		for above := height; above < height+10; above++ {
			n.signs(above+1, 2)
		}
		now := e.attest(v)
		if now.Start != before.Mark || now.Store != before.Store || now.Store == "" || now.Boot == before.Boot {
			t.Errorf("the document says %+v, before it %+v", now, before)
		}
		before = now
		e.halt()
	}

	// With the host's own records, as if there were no etcd: nothing.
	e = w.boot(w.honest(newDisk(t, v)))
	if s := e.boot(v); !strings.Contains(s.Problem, "no such state") {
		t.Errorf("with the first record of the host: %+v", s)
	}
}

// What TestTwinsOnALyingHost shows to work, a twin that is asked for no document, does not
// with the mark in etcd: neither with a floor of its own nor with a copy of the other's.
func TestSilentTwinInEtcd(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	twin := w.boot(w.honest(nil))
	joined, err := twin.share(hostlink.ShareJoin, v, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.meet(w.honest(withFloor(t, v, first)))
	twin.meet(w.honest(withFloor(t, v, joined.Floor)))
	var nodes []*node
	for _, one := range []*running{e, twin} {
		if s := one.boot(v); s.Problem != "" {
			t.Fatal(s.Problem)
		}
		nodes = append(nodes, one.node(v))
	}
	for height := range int64(20) {
		signed := 0
		for _, i := range []int{int(height % 2), 1 - int(height%2)} {
			if nodes[i].prevote(height+1, byte(i+1)) {
				signed++
			}
		}
		if signed != 1 {
			t.Fatalf("height %d is signed %d times", height+1, signed)
		}
	}
	twin.halt()

	// A copy of the other's floor: the two notice each other, and neither takes back what
	// the other has signed.
	clone := w.boot(w.honest(withFloor(t, v, first)))
	if s := clone.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := clone.node(v)
	n.refuses(20, 3)
	n.signs(21, 3)
	nodes[0].write(21, 1)
	if signed, err := nodes[0].read(21, 1); signed || err == nil {
		t.Errorf("beside a clone of its host: signed %v, %v", signed, err)
	}
}

// An older image whose policy has no etcd, and which KMS still admits, signs with the
// records of the host: what the threat model says. The one way to shut it out is KMS's.
func TestAnOldImageIsAWayRound(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	e.meet(w.honest(withFloor(t, v, first)))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	e.node(v).signs(1, 1)
	e.halt()
	w.policy.Etcd, w.etcd = policy.Etcd{}, nil
	e = w.boot(w.honest(newDisk(t, v)))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	e.node(v).signs(1, 2)
	if c := e.attest(v); c.Store != "" || c.Start != (watermark.Mark{}).String() {
		t.Errorf("the document names etcd, or where it did not begin: %+v", c)
	}
}

// Who sets etcd back, and nothing else, stops the signers; who has the floors too can have
// signed again what was, and the document shows it: what the threat model says.
func TestEtcdIsSetBack(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{Members: 1})
	w, e, v, first := inEtcd(t, c, nil)
	d := withFloor(t, v, first)
	e.meet(w.honest(d))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := e.node(v)
	n.signs(1, 1)
	disks := c.Copy(t, 0)
	n = e.eventually(n, 2, 1)
	n.signs(3, 1)
	before := e.attest(v)
	c.PutBack(t, disks)

	n.write(4, 1)
	if signed, err := n.read(4, 1); signed || err == nil {
		t.Errorf("signs on what was set back: %v, %v", signed, err)
	}
	e.halt()
	e = w.boot(w.honest(d))
	if s := e.boot(v); !strings.Contains(s.Problem, "restored") {
		t.Errorf("boots on what was set back: %+v", s)
	}
	e.halt()
	w.etcd.signed = map[string][]byte{} // and here the promise ends
	e = w.boot(w.honest(withFloor(t, v, first)))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	e.node(v).signs(2, 2)
	if now := e.attest(v); now.Store != before.Store || now.Start == before.Mark || !strings.HasPrefix(now.Start, "1/0/prevote/") {
		t.Errorf("the document does not show it: %+v, before it %+v", now, before)
	}
}

// lies about a member of etcd, under which nothing is signed. They get the connection once
// the enclave has asked for the member, and the number of the connection.
var lies = map[string]func(t *testing.T, w *world, h *host, conn net.Conn, member string, n int){
	"silence": func(_ *testing.T, _ *world, h *host, _ net.Conn, _ string, _ int) { <-h.done },
	"no": func(_ *testing.T, _ *world, _ *host, conn net.Conn, _ string, _ int) {
		hostlink.AnswerNode(conn, net.ErrClosed)
	},
	"garbage": func(_ *testing.T, _ *world, _ *host, conn net.Conn, _ string, n int) {
		conn.Write(garbage[n%len(garbage)])
	},
	"garbage of it": func(_ *testing.T, _ *world, _ *host, conn net.Conn, _ string, n int) {
		connected(conn).Write(garbage[n%len(garbage)])
	},
	"itself": func(_ *testing.T, _ *world, _ *host, conn net.Conn, _ string, _ int) { io.Copy(connected(conn), conn) },
	"nobody's CA": func(t *testing.T, w *world, _ *host, conn net.Conn, _ string, _ int) {
		impostor(t, connected(conn), w.etcd.nobody)
	},
	"another client": func(t *testing.T, w *world, _ *host, conn net.Conn, _ string, _ int) {
		impostor(t, connected(conn), w.etcd.cluster.Signer)
	},
	"a flipped bit": func(_ *testing.T, _ *world, _ *host, conn net.Conn, member string, n int) {
		relayChanged(connected(conn), member, func(at int, b []byte) bool {
			if i := 5 + 16*n - at; i >= 0 && i < len(b) {
				b[i] ^= 1 << (n % 8)
			}
			return true
		})
	},
	"the beginning of it": func(_ *testing.T, _ *world, _ *host, conn net.Conn, member string, n int) {
		relayChanged(connected(conn), member, func(at int, b []byte) bool { return at+len(b) < 200+40*n })
	},
}

func connected(conn net.Conn) net.Conn {
	hostlink.AnswerNode(conn, nil)
	return conn
}

// impostor shows the certificate of these files for a member's.
func impostor(t *testing.T, conn net.Conn, files etcdtest.Files) {
	config, err := files.Config()
	if err != nil {
		t.Error(err)
		return
	}
	config.NextProtos = []string{"h2"}
	server := tls.Server(conn, config)
	if server.Handshake() != nil {
		return
	}
	// With TLS 1.3 the client has not judged yet.
	if n, err := server.Read(make([]byte, 1)); n > 0 {
		t.Errorf("the enclave talks to an impostor, %v", err)
	}
}

// relayChanged relays a member, whose bytes change has its way with until it returns false.
func relayChanged(conn net.Conn, member string, change func(at int, b []byte) bool) {
	outside, err := net.Dial("tcp", member)
	if err != nil {
		return
	}
	defer outside.Close()
	go func() {
		io.Copy(outside, conn)
		outside.Close()
	}()
	b := make([]byte, 1<<14)
	for at := 0; ; {
		n, err := outside.Read(b)
		if n == 0 || err != nil || !change(at, b[:n]) {
			return
		}
		at += n
		if _, err := conn.Write(b[:n]); err != nil {
			return
		}
	}
}

// A host that lies about the members of etcd: nothing is signed while it does, whatever
// number of times the enclave tries; when it is honest again, what was asked is.
func TestHostThatLiesAboutMembers(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	w.etcd.nobody = etcdtest.NewCA(t).Client(t, "signer")
	d := withFloor(t, v, first)
	e.meet(w.honest(d))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := e.node(v)
	n.signs(1, 1)
	height := int64(2)
	for name, lie := range lies {
		tries := rounds(8, 4)
		var times atomic.Int32
		h, lied := w.honest(d), make(chan struct{}, 1<<16)
		h.etcd = func(conn net.Conn) {
			hello, err := hostlink.ReadEtcdHello(conn)
			if err != nil {
				return
			}
			n := times.Add(1)
			lied <- struct{}{}
			lie(t, w, h, conn, hello.Address, int(n))
		}
		e.meet(h)
		n = e.node(v)
		n.write(height, 1)
		for range tries {
			select {
			case <-lied:
			case <-time.After(patience):
				t.Fatalf("%s: the enclave does not try again", name)
			}
		}
		n.unanswered()
		e.meet(w.honest(d))
		e.eventually(e.node(v), height, 1)
		height++
	}
}

// A host that lies at random, about members and floors, with all floors that two enclaves
// have ever made: neither contradicts itself or the other, in three boots of each; and an
// honest host makes both sign again after a restart.
func TestLyingAtRandomInEtcd(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	w.etcd.nobody = etcdtest.NewCA(t).Client(t, "signer")
	e.halt()
	l := &liar{w: w, v: v, kept: [][]byte{first}, rng: rand.New(rand.NewPCG(1, 1)), lies: rand.New(rand.NewPCG(1, 2))}
	l.floors = *v
	l.floors.id, l.floors.first = floorID(v), first
	for range 3 {
		l.begin(t, 0)
		l.begin(t, 1)
		for range rounds(40, 20) {
			l.ask(l.rng.IntN(2))
		}
		l.es[0].halt()
		l.es[1].halt()
	}
	if l.signed == 0 {
		t.Error("nothing was signed at all: this proves nothing")
	}
	t.Logf("%d signatures, up to height %d", l.signed, l.top)
	for i, n := range l.notaries {
		e := w.boot(w.honest(withFloor(t, v, n.newest(&l.floors))))
		s := e.boot(v)
		height := int64(0)
		if _, err := fmt.Sscanf(s.Mark, "%d/", &height); err != nil || s.Problem != "" || height < l.top {
			t.Fatalf("with an honest host: %+v, %v", s, err)
		}
		l.nodes[i] = e.node(v)
		l.nodes[i].signs(height+1, byte(i))
	}
}

// liar is the host of two enclaves with one key.
type liar struct {
	w      *world
	v      *validator
	floors validator // as a notary has it
	kept   [][]byte  // floors that were ever made
	rng    *rand.Rand

	mu   sync.Mutex
	lies *rand.Rand

	es       [2]*running
	notaries [2]*notary
	nodes    [2]*node
	top      int64
	signed   int
}

// begin boots an enclave, on a floor of its own, and lies from then on.
func (l *liar) begin(t *testing.T, i int) {
	t.Helper()
	l.notaries[i] = newNotary(&l.floors)
	h := l.w.honest(nil)
	l.es[i] = l.w.boot(h)
	joined, err := l.es[i].share(hostlink.ShareJoin, l.v, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.notaries[i].put(&l.floors, joined.Floor)
	h = l.w.honest(nil)
	h.state = l.notaries[i].serve
	honest := h.etcd
	h.etcd = func(conn net.Conn) { l.member(t, h, honest, conn) }
	l.es[i].meet(h)
	if s := l.es[i].boot(l.v); s.Problem != "" {
		// It lied about the members already.
		l.es[i].halt()
		l.begin(t, i)
		return
	}
	l.nodes[i] = l.es[i].node(l.v)
	l.notaries[i].tell(randomLie(rand.New(rand.NewPCG(l.rng.Uint64(), 3)), l.notaries[i], l.notaries[0], &l.kept))
}

// member serves a connection to a member, now and then honestly.
func (l *liar) member(t *testing.T, h *host, honest func(net.Conn), conn net.Conn) {
	names := slices.Sorted(maps.Keys(lies))
	l.mu.Lock()
	which, n := l.lies.IntN(3*len(names)), l.lies.IntN(100)
	l.mu.Unlock()
	if which >= len(names) {
		honest(conn)
		return
	}
	if hello, err := hostlink.ReadEtcdHello(conn); err == nil {
		lies[names[which]](t, l.w, h, conn, hello.Address, n)
	}
}

// ask asks an enclave for some block around the newest height.
func (l *liar) ask(i int) {
	height, block := max(1, l.top+l.rng.Int64N(4)-1), byte(l.rng.IntN(3))
	n := l.nodes[i]
	n.write(height, block)
	n.conn.SetReadDeadline(time.Now().Add(time.Duration(rounds(100, 500)) * time.Millisecond))
	ok, err := n.read(height, block)
	if err != nil {
		n.conn.Close()
		l.nodes[i] = l.es[i].node(l.v)
	}
	if ok {
		l.signed++
		l.top = max(l.top, height)
	}
}

// A host that asks for the mark of now, as its witness does, hears where others have brought
// it, and changes nothing by it, whatever it asks for: what is signed is decided as before.
// While it withholds etcd it hears nothing new.
func TestLookInEtcd(t *testing.T) {
	t.Parallel()
	w, e, v, first := inEtcd(t, etcdtest.Shared(t), nil)
	twin := w.boot(w.honest(nil))
	joined, err := twin.share(hostlink.ShareJoin, v, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	looks := func(upTo hostlink.Look) (*hostlink.Looked, error) {
		upTo.ChainID = v.chain
		reply, err := twin.ask(hostlink.Request{Look: &upTo})
		return reply.Looked, err
	}
	if m, err := looks(hostlink.Look{}); err == nil {
		t.Errorf("of a chain that it does not sign for: %+v", m)
	}
	e.meet(w.honest(withFloor(t, v, first)))
	d := withFloor(t, v, joined.Floor)
	twin.meet(w.honest(d))
	for _, one := range []*running{e, twin} {
		if s := one.boot(v); s.Problem != "" {
			t.Fatal(s.Problem)
		}
	}
	n, other := e.node(v), twin.node(v)
	n.signs(5, 1)
	for _, upTo := range []hostlink.Look{{Height: 5}, {Height: 1 << 62, Round: 1 << 30, Step: 255}, {Height: 5, Round: -1}, {Height: -5}} {
		m, err := looks(upTo)
		if err != nil || upTo.Height > 0 && m.Height != 5 {
			t.Errorf("up to %+v: %+v, %v", upTo, m, err)
		}
	}
	other.refuses(5, 2)
	other.signs(6, 2)
	if m, err := looks(hostlink.Look{Height: 6}); err != nil || m.Height != 6 {
		t.Errorf("of what it has itself: %+v, %v", m, err)
	}

	cut := w.honest(d)
	cut.etcd = func(net.Conn) {}
	twin.meet(cut)
	if m, err := looks(hostlink.Look{Height: 7}); err == nil {
		t.Errorf("while etcd is withheld: %+v", m)
	}
	twin.meet(w.honest(d))
	twin.eventually(twin.node(v), 7, 2)
}
