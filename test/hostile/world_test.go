// Package hostile puts an enclave in the hands of a host that lies. A KMS of
// test/nitro/rig verifies its documents, signed under a test root.
//
// The stories do not say where their enclaves live. By default that is this
// process: the real code with its real KMS client, so that it runs everywhere and
// a thousand lies cost seconds. With PRIVYSEAL_HOSTILE=qemu it is the real image,
// booted in QEMU: kernel, vsock, security module and all. Some have fewer rounds
// there; what needs a kernel of the guest's is in kernel_test.go. With
// PRIVYSEAL_HOSTILE=sgx it is the shipped program of SGX enclaves, in the world of
// test/sgx/rig; stories of KMS are left out.
//
// Whatever a test does, the world looks over its shoulder: what an enclave signs
// may never contradict what the same boot of it has signed, and no byte that leaves
// any enclave may be part of a secret.
package hostile

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/nitro"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
	"privyseal/test/nitro/rig"
)

const (
	keyARN      = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	serverName  = "kms.eu-central-1.amazonaws.com"
	role        = "arn:aws:iam::123456789012:role/validator"
	patience    = time.Minute // for what has to happen, on a machine that is busy
	chainID     = "chain-1"
	testVersion = "test"
)

var credentials = hostlink.Credentials{AccessKeyID: "ASIATEST", SecretAccessKey: secret.New("a-secret-access-key"), SessionToken: secret.New("a-session-token")}

// world is one AWS: a root, KMS with a key, and images that may use it. Enclaves
// and hosts come and go.
type world struct {
	t      *testing.T
	root   *rig.Root
	kms    *rig.KMS
	policy *policy.Policy // of the enclaves that boot from here on
	etcd   *etcd          // where the marks are, nil: on the host

	mu      sync.Mutex
	images  []string        // PCR0 of each that may use the key, hex
	streams []*bytes.Buffer // all that left, by connection
	wrapped [][]byte        // what KMS can open
	secrets [][]byte        // others
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.root, err = rig.NewRoot(); err != nil {
		t.Fatal(err)
	}
	if w.kms, err = rig.NewKMS(w.root, serverName, "eu-central-1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kms.Close)
	w.policy = &policy.Policy{
		KMSKey: keyARN, KMSEndpoint: w.kms.Addr(), KMSServerName: serverName,
		TLSRoots: string(w.kms.CA()), AttestationRoot: string(w.root.PEM()),
	}
	if inSGX {
		w.policy = w.sgxPolicy()
	}
	t.Cleanup(w.searchSecrets)
	return w
}

// admit lets an image use the key, beside those before it.
func (w *world) admit(pcr0 []byte) {
	w.t.Helper()
	if text := hex.EncodeToString(pcr0); !slices.Contains(w.images, text) {
		w.images = append(w.images, text)
	}
	w.letIn(w.kms)
}

// letIn makes the key in a KMS, for the images of this world.
func (w *world) letIn(k *rig.KMS) {
	w.t.Helper()
	k.AddPrincipal(secret.AWS(credentials), role)
	err := k.AddKey(keyARN, fmt.Appendf(nil, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": %q}, "Resource": "*",
		"Action": ["kms:Decrypt", "kms:GenerateDataKey"],
		"Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": ["%s"]}}}]}`, role, strings.Join(w.images, `","`)))
	if err != nil {
		w.t.Fatal(err)
	}
}

// running is one boot of an enclave.
type running struct {
	w     *world
	guest guest
	pcr0  []byte
	once  sync.Once

	mu     sync.Mutex
	host   *host
	signed map[string][]byte // sign bytes by chain, height, round, step
}

// guest is an enclave that runs, wherever.
type guest interface {
	// call connects to its one port. Its connections are vsock.Conns.
	call() (net.Conn, error)
	// end ends it: what it knew is gone. An error says that it had ended before.
	end() error
}

// boot starts an enclave with a host.
func (w *world) boot(h *host) *running {
	w.t.Helper()
	e := &running{w: w, host: h, signed: map[string][]byte{}}
	switch {
	case inQEMU:
		w.bootInQEMU(e)
	case inSGX:
		w.bootInSGX(e)
	default:
		w.bootHere(e)
	}
	w.t.Cleanup(e.halt)
	return e
}

// halt ends the enclave.
func (e *running) halt() {
	e.once.Do(func() {
		if err := e.guest.end(); err != nil {
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

// call opens a connection to the enclave's one port.
func (e *running) call() net.Conn {
	e.w.t.Helper()
	conn, err := e.guest.call()
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
	reply, err := hostlink.Call(conn, req)
	// Until the enclave has seen the end it has one place less, of eight, for the next one.
	conn.(vsock.Conn).CloseWrite()
	io.Copy(io.Discard, conn)
	if reply.Created != nil {
		e.w.mu.Lock()
		e.w.wrapped = append(e.w.wrapped, reply.Created.Wrapped)
		e.w.mu.Unlock()
	}
	return reply, err
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
	req := bootRequest(v.chain, wrapped)
	if e.w.etcd != nil {
		req.Boot.Etcd = &e.w.etcd.client
	}
	reply, err := e.ask(req)
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
	read := e.readDocument
	if inSGX {
		read = e.readQuote
	}
	userData, err := read(reply.Document, nonce)
	if err != nil {
		e.w.t.Fatal(err)
	}
	c, err := claims.Decode(userData)
	if err != nil || c.Purpose != claims.PurposeAttest || c.Key != claims.EncodeKey(v.public.Bytes()) || c.Chain != v.chain {
		e.w.t.Fatalf("the document says %+v, %v", c, err)
	}
	return c
}

// readDocument verifies a document of the security module, and returns its claims.
func (e *running) readDocument(raw, nonce []byte) ([]byte, error) {
	anchor, err := nitro.ParseAnchor(e.w.root.PEM())
	if err != nil {
		return nil, err
	}
	doc, err := nitro.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := doc.Verify(anchor, time.Now()); err != nil {
		return nil, err
	}
	if doc.PublicKey != nil {
		return nil, errors.New("it has a public key")
	}
	return doc.UserData, (nitro.Expect{PCRs: map[int][]byte{0: e.pcr0}, Nonce: nonce}).Check(doc)
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
	if err := n.request(height, block); err != nil {
		n.e.w.t.Fatal(err)
	}
}

// request asks for a prevote. Each has its own time: a story asks for thousands, on a machine
// that is busy.
func (n *node) request(height int64, block byte) error {
	n.conn.SetDeadline(time.Now().Add(patience))
	return privvaltest.WriteRequest(n.conn, vote(n.v.chain, height, block))
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

// ledger checks a signature against all that the same boot has signed.
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
	if e.w.etcd != nil {
		e.w.etcd.ledger(e.w.t, at, signBytes)
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

// signsAtLast asks for a prevote as a node does: once more on the next connection, where one
// ends because the mark was not kept in time on a machine that is busy. It returns the
// connection that has the signature.
func (n *node) signsAtLast(height int64, block byte) *node {
	n.e.w.t.Helper()
	for end := time.Now().Add(patience); ; n = n.e.node(n.v) {
		signed := false
		err := n.request(height, block)
		if err == nil {
			signed, err = n.read(height, block)
		}
		switch {
		case signed:
			return n
		case err == nil:
			n.e.w.t.Fatalf("height %d, block %d is refused", height, block)
		case time.Now().After(end):
			n.e.w.t.Fatalf("height %d: %v", height, err)
		}
		n.conn.Close()
	}
}

func (n *node) refuses(height int64, block byte) {
	n.e.w.t.Helper()
	if n.prevote(height, block) {
		n.e.w.t.Fatalf("height %d, block %d is signed", height, block)
	}
}

// keep has the search look for a secret that KMS does not know.
func (w *world) keep(secret []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(secret) > 0 {
		w.secrets = append(w.secrets, bytes.Clone(secret))
	}
}

// stream returns a new one, for what leaves on a connection.
func (w *world) stream() *stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &bytes.Buffer{}
	w.streams = append(w.streams, b)
	return &stream{w, b}
}

type stream struct {
	w *world
	b *bytes.Buffer
}

func (s *stream) Write(p []byte) (int, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.b.Write(p)
}

// searchSecrets searches every byte that left an enclave: raw, hex, base64.
func (w *world) searchSecrets() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wrapped := range w.wrapped {
		var dataKey, secret []byte
		var err error
		if inSGX {
			secret, err = w.unseal(wrapped)
		} else {
			dataKey, secret, err = w.kms.Unwrap(wrapped)
		}
		if err != nil {
			w.t.Errorf("what an enclave calls a wrapped key: %v", err)
			continue
		}
		w.secrets = append(w.secrets, secret)
		if dataKey != nil {
			w.secrets = append(w.secrets, dataKey)
		}
		if !w.left([]byte(base64.StdEncoding.EncodeToString(wrapped))) {
			w.t.Error("a wrapped key left the enclave, and the search does not find it")
		}
	}
	if len(w.secrets) == 0 {
		w.t.Error("the world had no secret: the search proves nothing")
	}
	for _, secret := range w.secrets {
		for _, form := range forms(secret) {
			if w.left(form) {
				w.t.Errorf("a secret left the enclave, as %.4q…", form)
			}
		}
	}
}

// left reports whether something left an enclave.
func (w *world) left(what []byte) bool {
	return slices.ContainsFunc(w.streams, func(s *bytes.Buffer) bool { return bytes.Contains(s.Bytes(), what) })
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
