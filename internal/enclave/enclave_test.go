package enclave

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"privyseal/internal/claims"
	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/policy"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/secretconn"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// The whole life of a key: made inside, booted, signs, enclave dies, boots
// again, signs on from its mark.
func TestLife(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	pub, err := pubkey.New(pubkey.Ed25519, c.Public)
	if err != nil {
		t.Fatal(err)
	}
	_, cl := readDocument(t, c.Document)
	if cl.Purpose != claims.PurposeCreate || cl.Chain != "chain-1" || cl.Origin != claims.Generated || cl.Key != claims.EncodeKey(c.Public) || cl.KMSKey != w.policy.KMSKey || cl.Seq == 0 {
		t.Errorf("the document of the new key says %+v", cl)
	}
	if s := w.boot("chain-1", c, "a"); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := w.node()
	for height := range int64(50) {
		resp, err := n.prevote(height+1, 0xAA)
		req := prevote(height+1, 0xAA)
		if err != nil || !pub.Verify(req.SignBytes(), resp.Signature) {
			t.Fatalf("height %d: %q, %v", height+1, resp.Refused, err)
		}
	}
	if resp, err := n.prevote(50, 0xBB); err != nil || resp.Refused == "" {
		t.Errorf("a second block at height 50: %v, %v", resp, err)
	}
	reply, err := w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1", Nonce: []byte("fresh")}})
	if err != nil {
		t.Fatal(err)
	}
	doc, cl1 := readDocument(t, reply.Document)
	if string(doc.Nonce) != "fresh" || doc.PublicKey != nil || !strings.HasPrefix(cl1.Mark, "50/0/prevote/") || cl1.Purpose != claims.PurposeAttest || cl1.Seq != cl.Seq+50 {
		t.Errorf("the attestation says %+v, nonce %q", cl1, doc.Nonce)
	}

	w.halt()
	w.start()
	if _, err := w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}}); err == nil {
		t.Error("attests a chain that it was not booted with")
	}
	if s := w.boot("chain-1", c, "a"); s.Problem != "" || s.Mark != "50/0/prevote" {
		t.Fatalf("after a new start: %+v", s)
	}
	n = w.node()
	if resp, err := n.prevote(50, 0xBB); err != nil || resp.Refused == "" {
		t.Errorf("a second block at height 50 after a new start: %v, %v", resp, err)
	}
	if resp, err := n.prevote(51, 0xBB); err != nil || resp.Signature == nil {
		t.Errorf("height 51: %v, %v", resp, err)
	}
	w.noSecretLeft()
}

// A host that goes away takes the signing with it, and brings it back.
func TestHostGoneAndBack(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	w.boot("chain-1", c, "a")
	n := w.node()
	if resp, err := n.prevote(1, 1); err != nil || resp.Signature == nil {
		t.Fatal(resp, err)
	}
	id := watermark.ID{ChainID: "chain-1", Key: [32]byte(c.Public)}
	fake := w.keepers[id].Store.(*storetest.Fake)

	// The disk of the host fails; the request is tried again until it is back.
	fake.Script(storetest.Before, storetest.Before)
	if resp, err := n.prevote(2, 1); err != nil || resp.Signature == nil {
		t.Fatal(resp, err)
	}
	// The host process ends with the connections to nodes and state.
	w.mu.Lock()
	w.down = true
	w.mu.Unlock()
	n.conn.Close()
	for len(w.nodes) > 0 {
		(<-w.nodes).Close()
	}
	w.mu.Lock()
	w.down = false
	w.mu.Unlock()
	n = w.node()
	if resp, err := n.prevote(2, 9); err != nil || resp.Refused == "" {
		t.Errorf("another block after the host came back: %v, %v", resp, err)
	}
	if resp, err := n.prevote(3, 1); err != nil || resp.Signature == nil {
		t.Fatal(resp, err)
	}
	// A host that was restarted boots again; key, mark and sessions stay.
	if s := w.boot("chain-1", c, "a"); s.Problem != "" || s.Mark != "3/0/prevote" {
		t.Errorf("booted again: %+v", s)
	}
	if resp, err := n.prevote(4, 1); err != nil || resp.Signature == nil {
		t.Error("the session of before was cut:", err)
	}
	if s := w.boot("chain-1", c, "b"); s.Problem != "" {
		t.Error(s.Problem)
	}
	if resp, err := w.node().prevote(5, 1); err != nil || resp.Signature == nil {
		t.Error("the new node is not served:", err)
	}
}

// Two enclaves, one state, an honest host: never two blocks at one height,
// whoever is asked.
func TestTwins(t *testing.T) {
	a := newWorld(t, nil)
	c := a.create("chain-1")
	b := newWorld(t, func(p *policy.Policy) { *p = *a.policy })
	b.kms, b.keepers = a.kms, a.keepers
	b.halt()
	b.start()
	a.boot("chain-1", c, "a")
	b.boot("chain-1", c, "b")
	nodes := []*node{a.node(), b.node()}
	for height := range int64(40) {
		signed := 0
		for i, n := range nodes {
			resp, err := n.prevote(height+1, byte(i+1))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Signature != nil {
				signed++
			}
		}
		if signed != 1 {
			t.Fatalf("height %d was signed %d times", height+1, signed)
		}
	}
}

// What the measured policy says binds the host too.
func TestPolicy(t *testing.T) {
	t.Run("chain", func(t *testing.T) {
		w := newWorld(t, func(p *policy.Policy) { p.Chains = []string{"chain-2"} })
		_, err := w.ask(hostlink.Request{Create: &hostlink.Create{ChainID: "chain-1", KeyType: "ed25519"}})
		if err == nil || !strings.Contains(err.Error(), "does not name chain") {
			t.Error(err)
		}
	})
	t.Run("key", func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.create("chain-1")
		w.halt()
		w.policy.PublicKeys = []string{"another"}
		w.start()
		if s := w.boot("chain-1", c, "a"); !strings.Contains(s.Problem, "does not name the public key") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("height", func(t *testing.T) {
		w := newWorld(t, func(p *policy.Policy) { p.MaxHeight = 10; p.StateFloor = map[string]int64{"chain-1": 5} })
		c := w.create("chain-1")
		w.boot("chain-1", c, "a")
		n := w.node()
		for height, want := range map[int64]string{5: "height_floor", 11: "height_max"} {
			if resp, err := n.prevote(height, 1); err != nil || !strings.Contains(resp.Refused, want) {
				t.Errorf("height %d: %q, %v", height, resp.Refused, err)
			}
		}
		if resp, err := n.prevote(6, 1); err != nil || resp.Signature == nil {
			t.Error(resp.Refused, err)
		}
	})
	t.Run("raw bytes", func(t *testing.T) {
		w := newWorld(t, nil)
		w.boot("chain-1", w.create("chain-1"), "a")
		n := w.node()
		req := privval.Request{Kind: privval.KindSignBytes, Bytes: []byte("anything")}
		if resp, err := callNode(n, req); err != nil || !strings.Contains(resp.Refused, "raw_bytes") {
			t.Error(resp.Refused, err)
		}
	})
}

// A wrapped key is good for the chain and the public key that it was made for.
func TestWrongWrappedKey(t *testing.T) {
	w := newWorld(t, nil)
	c, other := w.create("chain-1"), w.create("chain-2")
	if s := w.boot("chain-1", other); !strings.Contains(s.Problem, `for chain "chain-2"`) {
		t.Errorf("another chain's key: %+v", s)
	}
	garbage := *c
	garbage.Wrapped = []byte("garbage")
	if s := w.boot("chain-1", &garbage); s.Problem == "" {
		t.Error("garbage was opened")
	}
	// A secret that was exchanged does not belong to the public key.
	stolen, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(clearKey{secret.Key{ChainID: "chain-1", KeyType: "ed25519", Public: c.Public, Origin: claims.Generated}, stolen.Secret()})
	if err != nil {
		t.Fatal(err)
	}
	garbage.Wrapped = w.kms.aead.Seal(nil, make([]byte, 12), b, nil)
	if s := w.boot("chain-1", &garbage); !strings.Contains(s.Problem, "does not belong to the public key") {
		t.Errorf("an exchanged secret: %+v", s)
	}
	w.kms.refuse = errors.New("KMS: AccessDeniedException")
	if s := w.boot("chain-1", c); !strings.Contains(s.Problem, "AccessDenied") {
		t.Errorf("KMS refuses: %+v", s)
	}
	w.kms.refuse = nil
	if s := w.boot("chain-1", c); s.Problem != "" {
		t.Errorf("after KMS is back: %+v", s)
	}
	if s := w.boot("chain-1", other); !strings.Contains(s.Problem, "another wrapped key") {
		t.Errorf("a key exchanged under a running chain: %+v", s)
	}
}

// An existing key comes in sealed to an attested key of this boot, with its
// state, and is of origin imported forever.
func TestImport(t *testing.T) {
	w := newWorld(t, nil)
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := w.ask(hostlink.Request{ImportKey: &hostlink.ImportKey{Nonce: []byte("n")}})
	if err != nil {
		t.Fatal(err)
	}
	doc, cl := readDocument(t, reply.Document)
	parsed, err := x509.ParsePKIXPublicKey(doc.PublicKey)
	if err != nil || cl.Purpose != claims.PurposeImport || string(doc.Nonce) != "n" {
		t.Fatal(cl, err)
	}
	last := prevote(41, 1)
	req := hostlink.Import{
		ChainID: "chain-1", KeyType: "ed25519", Public: key.PublicKey().Bytes(),
		Height: 41, Step: uint8(watermark.StepPrevote), SignBytes: last.SignBytes(),
	}
	if err := req.Seal(parsed.(*rsa.PublicKey), key.Secret()); err != nil {
		t.Fatal(err)
	}
	refused := map[string]func(*hostlink.Import){
		"no state":            func(r *hostlink.Import) { r.Height, r.Step, r.SignBytes = 0, 0, nil },
		"state and fresh":     func(r *hostlink.Import) { r.Fresh = true },
		"another public key":  func(r *hostlink.Import) { r.Public = make([]byte, 32) },
		"a lower state":       func(r *hostlink.Import) { r.Height, r.SignBytes = 40, nil },
		"altered":             func(r *hostlink.Import) { r.Sealed = append(bytes.Clone(r.Sealed), 1) },
		"sealed and from KMS": func(r *hostlink.Import) { r.KMS = []byte{1} },
		"neither":             func(r *hostlink.Import) { r.Sealed = nil },
		"no chain":            func(r *hostlink.Import) { r.ChainID = "" },
	}
	for name, change := range refused {
		bad := req
		change(&bad)
		if _, err := w.ask(hostlink.Request{Import: &bad}); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
	reply, err = w.ask(hostlink.Request{Import: &req})
	if err != nil {
		t.Fatal(err)
	}
	if _, cl := readDocument(t, reply.Created.Document); cl.Origin != claims.Imported || cl.Mark != "41/0/prevote" {
		t.Errorf("the document says %+v", cl)
	}
	w.keeper("chain-1", reply.Created)
	if s := w.boot("chain-1", reply.Created, "a"); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	n := w.node()
	if resp, err := n.prevote(41, 2); err != nil || resp.Refused == "" {
		t.Error("the imported state is not kept:", resp, err)
	}
	if resp, err := n.prevote(42, 2); err != nil || resp.Signature == nil {
		t.Error(resp.Refused, err)
	}
	w.noSecretLeft()

	w.halt()
	w.start()
	if _, err := w.ask(hostlink.Request{Import: &req}); err == nil || !strings.Contains(err.Error(), "import key") {
		t.Errorf("sealed to another boot: %v", err)
	}
}

// A lost state is made again only by an image whose policy has a floor, above it.
func TestNewState(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	req := hostlink.Request{NewState: &hostlink.NewState{ChainID: "chain-1", Wrapped: c.Wrapped, AfterHeight: 2000}}
	if _, err := w.ask(req); err == nil || !strings.Contains(err.Error(), "no state_floor") {
		t.Errorf("without a floor: %v", err)
	}
	w.halt()
	w.policy.StateFloor = map[string]int64{"chain-1": 1000}
	w.start()
	low := hostlink.Request{NewState: &hostlink.NewState{ChainID: "chain-1", Wrapped: c.Wrapped, AfterHeight: 999}}
	if _, err := w.ask(low); err == nil || !strings.Contains(err.Error(), "below the measured state_floor") {
		t.Errorf("below the floor: %v", err)
	}
	reply, err := w.ask(req)
	if err != nil {
		t.Fatal(err)
	}
	w.keeper("chain-1", reply.Created)
	w.boot("chain-1", reply.Created, "a")
	n := w.node()
	for height, signs := range map[int64]bool{2000: false, 2001: true} {
		if resp, err := n.prevote(height, 1); err != nil || (resp.Signature != nil) != signs {
			t.Errorf("height %d: %q, %v", height, resp.Refused, err)
		}
	}
	if _, cl := readDocument(t, reply.Created.Document); cl.Purpose != claims.PurposeState || cl.Mark != "2000/all/all" {
		t.Errorf("the document of the new state says %+v", cl)
	}
	attest := func() claims.Claims {
		t.Helper()
		reply, err := w.ask(hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1"}})
		if err != nil {
			t.Fatal(err)
		}
		_, cl := readDocument(t, reply.Document)
		return cl
	}
	before := attest()

	// Such an image gives its host the floor again at each boot. The record's number
	// cannot show that, for it is above all that were; the mark does.
	w.halt()
	w.start()
	req.NewState.AfterHeight = 1990
	if reply, err = w.ask(req); err != nil {
		t.Fatal(err)
	}
	w.keeper("chain-1", reply.Created)
	w.boot("chain-1", reply.Created, "a")
	n = w.node()
	for height := range int64(11) {
		if resp, err := n.prevote(1991+height, 2); err != nil || resp.Signature == nil {
			t.Fatal(resp.Refused, err)
		}
	}
	after := attest()
	if after.Seq <= before.Seq || after.Mark[:len("2001/0/prevote/")] != "2001/0/prevote/" || after.Mark == before.Mark || before.Start != "2000/all/all" || after.Start != "1990/all/all" {
		t.Errorf("the documents do not show that the state went back: %+v, then %+v", before, after)
	}
}

// A node over tcp talks to the enclave's identity: what the host between them
// carries is sealed to both ends. One that shows another identity than the pinned
// one is asked for nothing. Noise needs the real node: test/nitro/e2e.
func TestTCPEndsInside(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	reply, err := w.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519"}})
	if err != nil {
		t.Fatal(err)
	}
	identity := reply.Created
	if len(identity.Record) > 0 {
		t.Error("an identity has a state")
	}
	public, them, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bc := hostlink.BootChain{
		ID: "chain-1", Wrapped: c.Wrapped, Identity: identity.Wrapped,
		Nodes: []hostlink.BootNode{{Name: "a", Addr: "tcp://" + secretconn.PeerID(public) + "@127.0.0.1:26659"}},
	}
	if _, err := w.ask(hostlink.Request{Boot: &hostlink.Boot{LogLevel: "debug", Chains: []hostlink.BootChain{bc}}}); err != nil {
		t.Fatal(err)
	}
	ours := secretconn.PeerID(identity.Public)
	n := w.node()
	if conn, err := secretconn.Client(n.conn, other, ours); err == nil {
		if _, err := privvaltest.Call(conn, bufio.NewReader(conn), prevote(1, 0xBB)); err == nil {
			t.Error("another process is answered")
		}
	}
	n.conn.Close()

	conn, err := secretconn.Client(w.node().conn, them, ours)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := pubkey.New(pubkey.Ed25519, c.Public)
	if err != nil {
		t.Fatal(err)
	}
	req := prevote(1, 0xAA)
	resp, err := privvaltest.Call(conn, bufio.NewReader(conn), req)
	if err != nil || !pub.Verify(req.SignBytes(), resp.Signature) {
		t.Fatalf("%q, %v", resp.Refused, err)
	}
	w.mu.Lock()
	seen := bytes.Contains(w.left.Bytes(), resp.Signature)
	w.mu.Unlock()
	if seen {
		t.Error("the host could read the signature on its way to the node")
	}
	w.noSecretLeft()
}

// Garbage and floods on the one port that listens.
func TestGarbageOnControl(t *testing.T) {
	w := newWorld(t, nil)
	for _, garbage := range []string{"", "\x00\x00\x00\x00", "\x00\x00\x00\x02{}", "\xff\xff\xff\xff", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("\x00", 1<<16)} {
		conn, err := net.Dial("tcp", w.ctl.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(garbage))
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%.20q was answered, %v", garbage, err)
		}
		conn.Close()
	}
	// Connections that say nothing leave room, or are cut.
	var held []net.Conn
	for range 3 * maxControls {
		conn, err := net.Dial("tcp", w.ctl.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err := w.ask(hostlink.Request{Hello: &hostlink.Hello{}}); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("deaf after a flood")
		}
	}
}

// A host that has seen the end of a connection finds a place for the next one.
func TestPlaceIsFreeBeforeTheEnd(t *testing.T) {
	w := newWorld(t, nil)
	w.halt()
	ending, goOn := make(chan struct{}), make(chan struct{})
	var ended atomic.Bool
	w.end = func(net.Conn) {
		if ended.CompareAndSwap(false, true) { // the first one, and the others pass
			close(ending)
			<-goOn
		}
	}
	w.start()
	defer close(goOn)
	var held []net.Conn
	for range maxControls {
		conn, err := net.Dial("tcp", w.ctl.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
		if _, err := hostlink.Call(conn, hostlink.Request{Hello: &hostlink.Hello{}}); err != nil {
			t.Fatal(err)
		}
	}
	held[0].Close()
	<-ending
	if _, err := w.ask(hostlink.Request{Hello: &hostlink.Hello{}}); err != nil {
		t.Error(err)
	}
}

// The log shows what is signed, and never a secret, at any level.
func TestLog(t *testing.T) {
	w := newWorld(t, nil)
	c := w.create("chain-1")
	w.boot("chain-1", c, "a")
	n := w.node()
	if _, err := n.prevote(7, 1); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	seen := map[string]bool{}
	for !seen["event"] || !seen["node serving"] || !seen["log"] {
		select {
		case l := <-w.lines:
			switch {
			case l.Event != nil && l.Event.Height == 7 && l.Event.Kind == "prevote":
				seen["event"] = true
			case l.Node != nil:
				seen["node "+l.Node.State] = true
			case l.Log != nil:
				seen["log"] = true
			}
		case <-deadline:
			t.Fatal("seen only ", fmt.Sprint(seen))
		}
	}
	creds := hostlink.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret.New("s3cret"), SessionToken: secret.New("t0ken")}
	for _, text := range []string{fmt.Sprint(creds), fmt.Sprintf("%+v %#v", creds, creds)} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "t0ken") {
			t.Errorf("credentials print as %s", text)
		}
	}
	w.noSecretLeft()
}
