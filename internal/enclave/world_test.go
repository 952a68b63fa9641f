package enclave

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// world is an enclave in this process with a host around it. The security
// module and KMS are stand-ins; the real ones are in test/nitro. What crosses
// the wall crosses it here too, and every byte that leaves is kept.
type world struct {
	t      *testing.T
	policy *policy.Policy
	kms    *fakeKMS
	ctl    net.Listener
	end    func(net.Conn) // nil, or what happens before the enclave ends a connection of the host
	stop   context.CancelFunc
	done   chan error

	mu      sync.Mutex
	left    bytes.Buffer // all that left the enclave
	keepers map[watermark.ID]*hostlink.Keeper
	nodes   chan net.Conn // the nodes' ends
	lines   chan hostlink.Line
	down    bool // no host is there

	sample   func() []hostlink.KMSAnswer // nil: keys are under no KMS key
	cpu      []byte                      // of an enclave of SGX: what its seal key is
	recovery Recovery                    // instead of the one that belongs to the policy
	db       *db                         // nil without one
	member   func(net.Conn)              // what a member of etcd is
	table    func(net.Conn)              // what DynamoDB is
	role     func(net.Conn)              // who the host is for AWS
}

func newWorld(t *testing.T, change func(*policy.Policy)) *world {
	t.Helper()
	w := &world{
		t: t, policy: testPolicy(t), kms: newFakeKMS(), keepers: map[watermark.ID]*hostlink.Keeper{},
		nodes: make(chan net.Conn, 16), lines: make(chan hostlink.Line, 1<<16),
	}
	if change != nil {
		change(w.policy)
	}
	w.start()
	t.Cleanup(func() { w.halt() })
	return w
}

// start boots the enclave; what it knew is gone.
func (w *world) start() {
	ctx, stop := context.WithCancel(context.Background())
	listening := make(chan struct{})
	w.stop, w.done = stop, make(chan error, 1)
	c := Config{
		Version: "test", Policy: w.policy, Attester: fakeModule{}, Wrapper: w.kms,
		Cures: Cures{Restart: "`restart`", Rebuild: "`rebuild`", LostState: "the page of lost states"},
		Listen: func(port uint32) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			w.ctl = l
			close(listening)
			return endings{l, w.end}, err
		},
		Dial: w.dial, Etcd: w.engine, DynamoDB: w.engineOfTable,
	}
	if w.policy.Kind() == policy.OfSGX {
		w.onSGX(&c)
	}
	if w.sample != nil {
		c.Sample = func(context.Context, *hostlink.Sample) []hostlink.KMSAnswer { return w.sample() }
	}
	go func() { w.done <- Run(ctx, c) }()
	<-listening
}

func (w *world) halt() {
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Errorf("the enclave ended: %v", err)
	}
	w.done <- nil
}

// dial is what the enclave dials the host with.
func (w *world) dial(ctx context.Context, port uint32) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errors.New("connection refused")
	}
	inside, outside := tcpPair(w.t)
	inside = &leaving{inside, w}
	switch port {
	case hostlink.StatePort:
		go w.keep(outside)
	case hostlink.NodePort:
		go func() {
			if _, err := hostlink.ReadNodeHello(outside); err != nil {
				return
			}
			hostlink.AnswerNode(outside, nil)
			w.nodes <- outside
		}()
	case hostlink.LogPort:
		go hostlink.ReadLines(outside, func(l hostlink.Line) { w.lines <- l })
	case hostlink.EtcdPort:
		go w.member(outside)
	case hostlink.TablePort:
		go w.table(outside)
	case hostlink.RolePort:
		go w.role(outside)
	default:
		return nil, errors.New("no such port")
	}
	return inside, nil
}

func (w *world) keep(conn net.Conn) {
	defer conn.Close()
	id, err := hostlink.ReadStateOpen(conn)
	if err != nil {
		return
	}
	w.mu.Lock()
	k := w.keepers[id]
	w.mu.Unlock()
	if k == nil {
		hostlink.RefuseState(conn, errors.New("no such state"))
		return
	}
	k.Serve(context.Background(), conn)
}

// leaving records what the enclave writes.
type leaving struct {
	net.Conn
	w *world
}

func (l *leaving) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	l.w.left.Write(p)
	l.w.mu.Unlock()
	return l.Conn.Write(p)
}

// endings says when a connection is about to end.
type endings struct {
	net.Listener
	end func(net.Conn)
}

func (e endings) Accept() (net.Conn, error) {
	conn, err := e.Listener.Accept()
	if err != nil || e.end == nil {
		return conn, err
	}
	return ending{conn, e.end}, nil
}

type ending struct {
	net.Conn
	end func(net.Conn)
}

func (e ending) Close() error {
	e.end(e.Conn)
	return e.Conn.Close()
}

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// ask sends one request to the enclave.
func (w *world) ask(req hostlink.Request) (hostlink.Reply, error) {
	conn, err := net.Dial("tcp", w.ctl.Addr().String())
	if err != nil {
		return hostlink.Reply{}, err
	}
	defer conn.Close()
	reply, err := hostlink.Call(conn, req)
	if b, jsonErr := json.Marshal(reply); jsonErr == nil {
		w.mu.Lock()
		w.left.Write(b)
		w.mu.Unlock()
	}
	return reply, err
}

// create makes a key and gives its state to an honest host.
func (w *world) create(chainID string) *hostlink.Created {
	w.t.Helper()
	reply, err := w.ask(hostlink.Request{Create: &hostlink.Create{ChainID: chainID, KeyType: "ed25519"}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.keeper(chainID, reply.Created)
	return reply.Created
}

// keeper makes the host's state of a new key.
func (w *world) keeper(chainID string, c *hostlink.Created) *storetest.Fake {
	w.t.Helper()
	m, err := hostlink.HostMark(c.Record)
	if err != nil {
		w.t.Fatal(err)
	}
	id := watermark.ID{ChainID: chainID, Key: [32]byte(c.Public)}
	fake := storetest.NewFake(m)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keepers[id] = &hostlink.Keeper{ID: id, Store: fake}
	return fake
}

func (w *world) boot(chainID string, c *hostlink.Created, nodes ...string) hostlink.ChainStatus {
	w.t.Helper()
	b := &hostlink.Boot{LogLevel: "debug", Chains: []hostlink.BootChain{{ID: chainID, Wrapped: c.Wrapped}}}
	for _, n := range nodes {
		b.Chains[0].Nodes = append(b.Chains[0].Nodes, hostlink.BootNode{Name: n, Addr: "unix:///" + n})
	}
	reply, err := w.ask(hostlink.Request{Boot: b})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range reply.Status.Chains {
		if s.ID == chainID {
			return s
		}
	}
	w.t.Fatalf("no chain %s in %+v", chainID, reply.Status)
	return hostlink.ChainStatus{}
}

// node waits for the enclave to dial the next node.
func (w *world) node() *node {
	w.t.Helper()
	select {
	case conn := <-w.nodes:
		conn.SetDeadline(time.Now().Add(time.Minute))
		return &node{conn, bufio.NewReader(conn)}
	case <-time.After(time.Minute):
		w.t.Fatal("the enclave dials no node")
	}
	return nil
}

type node struct {
	conn net.Conn
	r    *bufio.Reader
}

func (n *node) prevote(height int64, block byte) (privval.Response, error) {
	return privvaltest.Call(n.conn, n.r, prevote(height, block))
}

func prevote(height int64, block byte) privval.Request {
	return privval.Request{
		Kind: privval.KindPrevote, ChainID: "chain-1", Height: height, Timestamp: privval.Timestamp{Seconds: 1},
		BlockID: privval.BlockID{Hash: bytes.Repeat([]byte{block}, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
	}
}

// fakeModule puts what it is asked into JSON, unsigned.
type fakeModule struct{}

type fakeDocument struct{ UserData, Nonce, PublicKey []byte }

func (fakeModule) Attest(userData, nonce, publicKey []byte) ([]byte, error) {
	return json.Marshal(fakeDocument{userData, nonce, publicKey})
}

func readDocument(t *testing.T, doc []byte) (fakeDocument, claims.Claims) {
	t.Helper()
	var d fakeDocument
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	c, err := claims.Decode(d.UserData)
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

// fakeKMS encrypts under a key of its own.
type fakeKMS struct {
	aead    cipher.AEAD
	refuse  error
	secrets [][]byte // every secret that it has wrapped
}

// clearKey is a key as fakeKMS encrypts it, with its secret.
type clearKey struct {
	secret.Key
	Secret []byte
}

func newFakeKMS() *fakeKMS {
	block, _ := aes.NewCipher(make([]byte, 32))
	aead, _ := cipher.NewGCM(block)
	return &fakeKMS{aead: aead}
}

func (k *fakeKMS) Wrap(_ context.Context, _ secret.AWS, s secret.Key) ([]byte, error) {
	if k.refuse != nil {
		return nil, k.refuse
	}
	clone := bytes.Clone(s.Secret.Reveal())
	k.secrets = append(k.secrets, clone)
	b, err := json.Marshal(clearKey{s, clone})
	return k.aead.Seal(nil, make([]byte, 12), b, nil), err
}

func (k *fakeKMS) Unwrap(_ context.Context, _ secret.AWS, wrapped []byte) (s secret.Key, err error) {
	if k.refuse != nil {
		return s, k.refuse
	}
	b, err := k.aead.Open(nil, make([]byte, 12), wrapped, nil)
	if err != nil {
		return s, errors.New("KMS: InvalidCiphertextException")
	}
	var opened clearKey
	err = json.Unmarshal(b, &opened)
	opened.Key.Secret = secret.NewBytes(opened.Secret)
	return opened.Key, err
}

func (k *fakeKMS) Decrypt(_ context.Context, _ secret.AWS, ciphertext []byte) ([]byte, error) {
	return k.aead.Open(nil, make([]byte, 12), ciphertext, nil)
}

// noSecretLeft searches all that left the enclave for every secret of its keys,
// raw, in hex and in base64 at each of its three alignments.
func (w *world) noSecretLeft() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kms.secrets) == 0 || w.left.Len() == 0 {
		w.t.Fatal("nothing to search")
	}
	for _, secret := range w.kms.secrets {
		forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), bytes.ToUpper([]byte(hex.EncodeToString(secret)))}
		for shift := range 3 {
			text := base64.RawStdEncoding.EncodeToString(secret[shift:])
			forms = append(forms, []byte(text[:len(text)-2]))
		}
		for _, form := range forms {
			if bytes.Contains(w.left.Bytes(), form) {
				w.t.Fatalf("a secret left the enclave: %q", form[:4])
			}
		}
	}
}

func testPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Policy{
		KMSKey:      "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		KMSEndpoint: "kms.eu-central-1.amazonaws.com:443", KMSServerName: "kms.eu-central-1.amazonaws.com",
		TLSRoots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}
}

func callNode(n *node, req privval.Request) (privval.Response, error) {
	return privvaltest.Call(n.conn, n.r, req)
}
