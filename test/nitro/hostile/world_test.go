// Package hostile puts the real code of the enclave, with its real KMS client, in
// the hands of a host that lies. A KMS of package rig verifies its documents; the
// security module signs them under a test root. All runs in this process, so that
// it runs everywhere and a thousand lies cost seconds; test/nitro boots the image.
//
// Whatever a test does, the world looks over its shoulder: what an enclave signs
// may never contradict what the same boot of it has signed, and no byte that leaves
// any enclave may be part of a secret.
package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/enclave"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/nitrokms"
	"privyseal/internal/key/soft"
	"privyseal/internal/nitro"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
	"privyseal/test/nitro/rig"
)

const (
	keyARN      = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	serverName  = "kms.eu-central-1.amazonaws.com"
	role        = "arn:aws:iam::123456789012:role/validator"
	keyPolicy   = `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "` + role + `"}, "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*", "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": "%x"}}}]}`
	patience    = 30 * time.Second // for what has to happen, on a machine that is busy
	chainID     = "chain-1"
	testVersion = "test"
)

var credentials = hostlink.Credentials{AccessKeyID: "ASIATEST", SecretAccessKey: "a-secret-access-key", SessionToken: "a-session-token"}

// world is one AWS: a root, KMS with a key, and an image that may use it. Enclaves
// and hosts come and go.
type world struct {
	t      *testing.T
	root   *rig.Root
	image  *module // what documents say of every enclave
	kms    *rig.KMS
	policy *policy.Policy
	clock  func() time.Time // of the enclaves

	mu      sync.Mutex
	streams []*bytes.Buffer // all that left, by connection
	secrets [][]byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: time.Now}
	var err error
	if w.root, err = rig.NewRoot(); err != nil {
		t.Fatal(err)
	}
	w.image = newModule(t, w.root)
	if w.kms, err = rig.NewKMS(w.root, serverName, "eu-central-1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kms.Close)
	w.kms.AddPrincipal(credentials4(credentials), role)
	if err := w.kms.AddKey(keyARN, fmt.Appendf(nil, keyPolicy, w.image.pcrs[0])); err != nil {
		t.Fatal(err)
	}
	w.policy = &policy.Policy{
		KMSKey: keyARN, KMSEndpoint: w.kms.Addr(), KMSServerName: serverName,
		TLSRoots: string(w.kms.CA()), AttestationRoot: string(w.root.PEM()),
	}
	t.Cleanup(w.searchSecrets)
	return w
}

// credentials4 leaves out the time, of which KMS knows nothing.
func credentials4(c hostlink.Credentials) rig.Credentials {
	return rig.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// running is one boot of an enclave.
type running struct {
	w    *world
	ctl  net.Listener
	stop context.CancelFunc
	done chan error
	once sync.Once

	mu     sync.Mutex
	host   *host
	signed map[string][]byte // sign bytes by chain, height, round, step
}

// boot starts an enclave with a host.
func (w *world) boot(h *host) *running {
	w.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	e := &running{w: w, stop: stop, done: make(chan error, 1), host: h, signed: map[string][]byte{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	e.ctl = listener{l, w}
	kms := w.client(func(ctx context.Context) (net.Conn, error) { return e.dial(ctx, hostlink.KMSPort) })
	c := enclave.Config{
		Version: testVersion, Policy: w.policy, Module: w.image, KMS: spy{kms, w}, Dial: e.dial,
		Listen: func(port uint32) (net.Listener, error) {
			if port != hostlink.ControlPort {
				return nil, fmt.Errorf("the enclave listens on port %d", port)
			}
			return e.ctl, nil
		},
	}
	go func() { e.done <- enclave.Run(ctx, c) }()
	w.t.Cleanup(e.halt)
	return e
}

// client returns the enclave's client of KMS, made as its program makes it.
func (w *world) client(dial func(context.Context) (net.Conn, error)) *nitrokms.Client {
	w.t.Helper()
	use, err := claims.Claims{Purpose: claims.PurposeKMS, KMSKey: w.policy.KMSKey}.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := nitrokms.New(nitrokms.Config{
		KeyARN: w.policy.KMSKey, ServerName: w.policy.KMSServerName, Roots: w.policy.Roots(), Dial: dial,
		Attest: func(publicKey []byte) ([]byte, error) { return w.image.Attest(use, nil, publicKey) },
		Now:    func() time.Time { return w.clock() },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// halt ends the enclave: what it knew is gone.
func (e *running) halt() {
	e.once.Do(func() {
		e.stop()
		if err := <-e.done; err != nil {
			e.w.t.Errorf("the enclave ended: %v", err)
		}
		e.current().end()
	})
}

func (e *running) current() *host {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.host
}

// meet gives the enclave another host. The one before is gone like a process that
// was killed, with all its connections.
func (e *running) meet(h *host) {
	e.mu.Lock()
	before := e.host
	e.host = h
	e.mu.Unlock()
	if before != h {
		before.end()
	}
}

func (e *running) dial(_ context.Context, port uint32) (net.Conn, error) {
	inside, outside, err := pair()
	if err != nil {
		return nil, err
	}
	if port == hostlink.LogPort {
		inside.(*net.TCPConn).SetWriteBuffer(16 << 10) // vsock's are not larger either
	}
	if !e.current().take(port, outside) {
		inside.Close()
		outside.Close()
		return nil, errors.New("connection refused")
	}
	return e.w.watch(inside), nil
}

// call opens a connection to the enclave's one port.
func (e *running) call() net.Conn {
	e.w.t.Helper()
	conn, err := net.Dial("tcp", e.ctl.Addr().String())
	if err != nil {
		e.w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(2 * patience))
	return conn
}

func (e *running) ask(req hostlink.Request) (hostlink.Reply, error) {
	e.w.t.Helper()
	conn := e.call()
	defer conn.Close()
	return hostlink.Call(conn, req)
}

// validator is a key that an enclave made, and all that a host has of it.
type validator struct {
	chain   string
	wrapped []byte
	first   []byte // record
	public  pubkey.Key
	id      watermark.ID
}

func (e *running) create(chain string) *validator {
	e.w.t.Helper()
	reply, err := e.ask(hostlink.Request{Create: &hostlink.Create{ChainID: chain, KeyType: "ed25519", Credentials: credentials}})
	if err != nil {
		e.w.t.Fatal(err)
	}
	return e.w.validator(chain, reply.Created)
}

func (w *world) validator(chain string, c *hostlink.Created) *validator {
	w.t.Helper()
	public, err := pubkey.New(pubkey.Ed25519, c.Public)
	if err != nil {
		w.t.Fatal(err)
	}
	return &validator{chain: chain, wrapped: c.Wrapped, first: c.Record, public: public, id: watermark.ID{ChainID: chain, Key: public.ID()}}
}

// boot boots the enclave for v, with one node.
func (e *running) boot(v *validator) hostlink.ChainStatus {
	e.w.t.Helper()
	return e.bootWith(v, v.wrapped)
}

func (e *running) bootWith(v *validator, wrapped []byte) hostlink.ChainStatus {
	e.w.t.Helper()
	reply, err := e.ask(bootRequest(v.chain, wrapped))
	if err != nil {
		return hostlink.ChainStatus{Problem: err.Error()}
	}
	for _, s := range reply.Status.Chains {
		if s.ID == v.chain {
			return s
		}
	}
	e.w.t.Fatalf("no chain %s in %+v", v.chain, reply.Status)
	return hostlink.ChainStatus{}
}

func bootRequest(chain string, wrapped []byte) hostlink.Request {
	return hostlink.Request{Boot: &hostlink.Boot{Credentials: credentials, LogLevel: "debug", Chains: []hostlink.BootChain{
		{ID: chain, Wrapped: wrapped, Nodes: []hostlink.BootNode{{Name: "node", Addr: "unix:///node"}}},
	}}}
}

// attest returns what a document of the enclave says, after it was verified as
// anybody elsewhere would.
func (e *running) attest(v *validator) claims.Claims {
	e.w.t.Helper()
	nonce := []byte("of the watcher")
	reply, err := e.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: v.chain, Nonce: nonce}})
	if err != nil {
		e.w.t.Fatal(err)
	}
	anchor, err := nitro.ParseAnchor(e.w.root.PEM())
	if err != nil {
		e.w.t.Fatal(err)
	}
	doc, err := nitro.Parse(reply.Document)
	if err != nil {
		e.w.t.Fatal(err)
	}
	if err := doc.Verify(anchor, time.Now()); err != nil {
		e.w.t.Fatal(err)
	}
	if err := (nitro.Expect{PCRs: map[int][]byte{0: e.w.image.pcrs[0]}, Nonce: nonce}).Check(doc); err != nil {
		e.w.t.Fatal(err)
	}
	c, err := claims.Decode(doc.UserData)
	if err != nil || c.Purpose != claims.PurposeAttest || c.Key != claims.EncodeKey(v.public.Bytes()) || c.Chain != v.chain || doc.PublicKey != nil {
		e.w.t.Fatalf("the document says %+v, %v", c, err)
	}
	return c
}

// node is a node's end of a connection to the enclave.
type node struct {
	e    *running
	v    *validator
	conn net.Conn
	r    *bufio.Reader
}

// node waits for the enclave's next connection to a node.
func (e *running) node(v *validator) *node {
	e.w.t.Helper()
	select {
	case conn := <-e.current().dialled(v.chain):
		conn.SetDeadline(time.Now().Add(patience))
		return &node{e, v, conn, bufio.NewReader(conn)}
	case <-time.After(patience):
		e.w.t.Fatal("the enclave dials no node")
	}
	return nil
}

func vote(chain string, height int64, block byte) privval.Request {
	return privval.Request{
		Kind: privval.KindPrevote, ChainID: chain, Height: height, Timestamp: privval.Timestamp{Seconds: 1},
		BlockID: privval.BlockID{Hash: bytes.Repeat([]byte{block}, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
	}
}

// write asks for a prevote and does not wait.
func (n *node) write(height int64, block byte) {
	n.e.w.t.Helper()
	if err := privvaltest.WriteRequest(n.conn, vote(n.v.chain, height, block)); err != nil {
		n.e.w.t.Fatal(err)
	}
}

// read reads the answer to a prevote for the block. An error is a connection that
// ended without one.
func (n *node) read(height int64, block byte) (signed bool, err error) {
	n.e.w.t.Helper()
	payload, err := privval.ReadFrame(n.r, nil)
	if err != nil {
		return false, err
	}
	resp, err := privvaltest.DecodeResponse(payload)
	if err != nil {
		n.e.w.t.Fatal(err)
	}
	if resp.Signature == nil {
		if resp.Refused == "" {
			n.e.w.t.Fatalf("neither signed nor refused: %+v", resp)
		}
		return false, nil
	}
	req := vote(n.v.chain, height, block)
	n.e.ledger(n.v, height, req.SignBytes(), resp.Signature)
	return true, nil
}

// ledger holds a signature against all that the same boot has signed.
func (e *running) ledger(v *validator, height int64, signBytes, signature []byte) {
	e.w.t.Helper()
	if !v.public.Verify(signBytes, signature) {
		e.w.t.Fatalf("height %d: the signature is of something else", height)
	}
	at := fmt.Sprintf("%s at %d", v.chain, height)
	e.mu.Lock()
	before := e.signed[at]
	e.signed[at] = signBytes
	e.mu.Unlock()
	if before != nil && !bytes.Equal(before, signBytes) {
		e.w.t.Errorf("DOUBLE SIGN: %s, within one boot", at)
	}
}

func (n *node) prevote(height int64, block byte) bool {
	n.e.w.t.Helper()
	n.write(height, block)
	signed, err := n.read(height, block)
	if err != nil {
		n.e.w.t.Fatalf("height %d: %v", height, err)
	}
	return signed
}

func (n *node) signs(height int64, block byte) {
	n.e.w.t.Helper()
	if !n.prevote(height, block) {
		n.e.w.t.Fatalf("height %d, block %d is refused", height, block)
	}
}

func (n *node) refuses(height int64, block byte) {
	n.e.w.t.Helper()
	if n.prevote(height, block) {
		n.e.w.t.Fatalf("height %d, block %d is signed", height, block)
	}
}

// spy sees every secret that goes to KMS or comes from there, to search for it.
type spy struct {
	enclave.KMS
	w *world
}

func (s spy) Wrap(ctx context.Context, c nitrokms.Credentials, secret nitrokms.Secret) ([]byte, error) {
	s.w.keep(secret.Secret)
	return s.KMS.Wrap(ctx, c, secret)
}

func (s spy) Unwrap(ctx context.Context, c nitrokms.Credentials, wrapped []byte) (nitrokms.Secret, error) {
	secret, err := s.KMS.Unwrap(ctx, c, wrapped)
	s.w.keep(secret.Secret)
	return secret, err
}

func (s spy) Decrypt(ctx context.Context, c nitrokms.Credentials, file []byte) ([]byte, error) {
	plain, err := s.KMS.Decrypt(ctx, c, file)
	s.w.keep(plain)
	return plain, err
}

func (w *world) keep(secret []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(secret) > 0 {
		w.secrets = append(w.secrets, bytes.Clone(secret))
	}
}

// watch keeps what the enclave writes to a connection.
func (w *world) watch(inside net.Conn) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	stream := &bytes.Buffer{}
	w.streams = append(w.streams, stream)
	return &leaving{inside, w, stream}
}

type leaving struct {
	net.Conn
	w      *world
	stream *bytes.Buffer
}

func (l *leaving) Write(p []byte) (int, error) {
	l.w.mu.Lock()
	l.stream.Write(p)
	l.w.mu.Unlock()
	return l.Conn.Write(p)
}

type listener struct {
	net.Listener
	w *world
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.w.watch(conn), nil
}

// searchSecrets searches every byte that left an enclave: raw, hex, base64.
func (w *world) searchSecrets() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.secrets) == 0 {
		w.t.Error("the world had no secret: the search proves nothing")
	}
	for _, secret := range w.secrets {
		for _, form := range forms(secret) {
			for _, stream := range w.streams {
				if bytes.Contains(stream.Bytes(), form) {
					w.t.Errorf("a secret left the enclave, as %.4q…", form)
				}
			}
		}
	}
}

// forms returns how a secret could show: itself and what is derived from it and as
// good, each raw, in hex, and in base64 at its three alignments.
func forms(secret []byte) (list [][]byte) {
	expanded := sha512.Sum512(secret) // RFC 8032: the scalar and the prefix
	raw := [][]byte{secret, expanded[:32], expanded[32:]}
	if key, err := soft.FromSecret(pubkey.Ed25519, secret); err == nil {
		if mac, err := key.Derive("state record 1"); err == nil {
			raw = append(raw, mac[:])
		}
	}
	for _, r := range raw {
		text := hex.EncodeToString(r)
		list = append(list, r, []byte(text), []byte(strings.ToUpper(text)))
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for shift := range 3 {
				text := encoding.EncodeToString(r[shift:])
				list = append(list, []byte(text[:len(text)-2]))
			}
		}
	}
	return list
}

// The search finds what it is made to find.
func TestSearchFinds(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfb, 1, 2, 3}, 8)
	expanded := sha512.Sum512(secret)
	for name, leak := range map[string][]byte{
		"raw":      secret,
		"hex":      []byte(hex.EncodeToString(secret)),
		"base64":   []byte(base64.StdEncoding.EncodeToString(secret)),
		"within":   []byte(base64.StdEncoding.EncodeToString(append([]byte("ab"), secret...))),
		"url":      []byte(base64.URLEncoding.EncodeToString(append([]byte("a"), secret...))),
		"expanded": []byte(hex.EncodeToString(expanded[:])),
	} {
		found := false
		for _, form := range forms(secret) {
			found = found || bytes.Contains(append([]byte("something before "), leak...), form)
		}
		if !found {
			t.Errorf("%s: not found", name)
		}
	}
}

// pair returns two ends of a connection.
func pair() (inside, outside net.Conn, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if inside, err = net.Dial("tcp", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	if outside, err = l.Accept(); err != nil {
		inside.Close()
		return nil, nil, err
	}
	return inside, outside, nil
}
