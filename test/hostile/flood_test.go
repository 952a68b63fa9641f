package hostile

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/nitro"
	"privyseal/internal/pubkey"
	"privyseal/internal/sgx/document"
	"privyseal/internal/vsock"
)

// garbage is what is thrown at every port.
var garbage = [][]byte{
	{}, {0}, {0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 2, '{', '}'}, {0xff, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff, 1},
	[]byte("GET / HTTP/1.1\r\nHost: enclave\r\n\r\n"), []byte(strings.Repeat("\x00", 1<<16)), []byte(strings.Repeat("A", 1<<16)),
	[]byte(strings.Repeat("\xff", 1<<20)),
}

// hello shows that the enclave answers, within a bound.
func (e *running) hello() hostlink.Reply {
	e.w.t.Helper()
	for end := time.Now().Add(patience); ; {
		reply, err := e.ask(hostlink.Request{Hello: &hostlink.Hello{}})
		if err == nil {
			return reply
		}
		if time.Now().After(end) {
			e.w.t.Fatal("the enclave is deaf: ", err)
		}
	}
}

// Garbage, floods and connections that say nothing, on the port that the enclave
// listens on and on each that it dials.
func TestGarbageOnEveryPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	e.node(v).signs(1, 1)
	height := int64(2)
	for i, g := range garbage {
		t.Run(fmt.Sprint("control ", i), func(t *testing.T) {
			conn := e.call()
			defer conn.Close()
			conn.Write(g)
			conn.(vsock.Conn).CloseWrite()
			if n, err := conn.Read(make([]byte, 1)); n > 0 {
				t.Errorf("%.20q is answered, %v", g, err)
			}
		})
		for name, set := range map[string]func(*host, func(net.Conn)){
			"state": func(h *host, f func(net.Conn)) { h.state = f },
			"node":  func(h *host, f func(net.Conn)) { h.node = f },
			"log":   func(h *host, f func(net.Conn)) { h.log = f },
		} {
			h := w.honest(d)
			dialled := make(chan struct{}, 1<<16)
			set(h, func(conn net.Conn) {
				dialled <- struct{}{}
				conn.Write(g)
			})
			e.meet(h)
			if name == "state" {
				e.node(v).write(height, 1)
			}
			if name != "log" { // which is dialled when there is something to report
				for range 3 {
					select {
					case <-dialled:
					case <-time.After(patience):
						t.Fatalf("%s, garbage %d: the enclave does not try again", name, i)
					}
				}
			}
			e.signsOn(v, d, height)
			height += 2
		}
	}
	// More connections than there is room for, all silent.
	var held []net.Conn
	for range 64 {
		held = append(held, e.call())
	}
	for _, c := range held {
		c.Close()
	}
	e.hello()
	// Connections without end, while a node is signed for.
	e.meet(w.honest(d))
	n := e.node(v)
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			for range 250 {
				if conn, err := e.guest.call(); err == nil {
					conn.Write([]byte{0, 0})
					conn.Close()
				}
			}
		})
	}
	for range 20 {
		n.signs(height, 1)
		height++
	}
	flood.Wait()
	e.hello()
	e.signsOn(v, d, height)
}

// A host that talks garbage where a node should be, before and after a request.
func TestGarbageFromNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	for i, g := range garbage {
		n := e.node(v)
		n.conn.Write(g)
		n.conn.(vsock.Conn).CloseWrite()
		io.Copy(io.Discard, n.conn)
		n = e.node(v)
		n.signs(int64(i)+1, 1)
		n.conn.Write(g)
		n.conn.Close()
	}
	e.signsOn(v, d, int64(len(garbage))+1)
}

// A log that nobody reads does not hold up a signature.
func TestLogReaderThatNeverReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	deaf := w.honest(d)
	deaf.log = func(conn net.Conn) {
		conn.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4096)
		<-deaf.done
	}
	e.meet(deaf)
	e.boot(v)
	n := e.node(v)
	n.signs(1, 1)
	// Many times what the queue and all buffers in between hold.
	began := time.Now()
	signatures := rounds(8_000, 6_000)
	for height := range int64(signatures) {
		n.signs(height+2, 1)
	}
	t.Logf("%v a signature", time.Since(began)/time.Duration(signatures))
	if inSGX {
		return // a connection buffers more lines than this, in the memory of the host
	}
	// A reader learns how many lines it has missed.
	h := w.honest(d)
	e.meet(h)
	n = e.node(v)
	for height := int64(signatures + 2); ; height++ {
		n.signs(height, 1)
		if logged(h, "log lines were dropped") {
			break
		}
		if height > int64(signatures)+2000 {
			t.Fatal("nobody tells of dropped lines")
		}
	}
}

func logged(h *host, message string) bool {
	for {
		select {
		case l := <-h.lines:
			if l.Log != nil && strings.Contains(l.Log.Message, message) {
				return true
			}
		default:
			return false
		}
	}
}

// The host's requests in any order, good and bad: each is answered, none ends the
// enclave, and the running chain signs on.
func TestRequestsInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.StateFloor = map[string]int64{"chain-3": 100}
	e := w.boot(w.honest(nil))
	v, other, third := e.create(chainID), e.create("chain-2"), e.create("chain-3")
	d := newDisk(t, v, other, third)
	e.meet(w.honest(d))
	imports := sealedImport(t, e, "chain-4")
	requests := []hostlink.Request{
		{Hello: &hostlink.Hello{}},
		{Create: &hostlink.Create{ChainID: "chain-5", KeyType: "ed25519", Credentials: credentials}},
		{Create: &hostlink.Create{ChainID: strings.Repeat("c", 51), KeyType: "ed25519", Credentials: credentials}},
		{Create: &hostlink.Create{ChainID: chainID, KeyType: "none", Credentials: credentials}},
		{Create: &hostlink.Create{}},
		{ImportKey: &hostlink.ImportKey{Nonce: []byte("n")}},
		{ImportKey: &hostlink.ImportKey{Nonce: make([]byte, 9999)}},
		{Import: imports},
		{Import: &hostlink.Import{}},
		{Import: &hostlink.Import{ChainID: "chain-4", KeyType: "ed25519", Height: -1, KMS: []byte{1}, Credentials: credentials}},
		bootRequest(chainID, v.wrapped), bootRequest(chainID, other.wrapped), bootRequest("chain-2", other.wrapped), bootRequest("chain-9", v.wrapped),
		{Boot: &hostlink.Boot{}},
		{Boot: &hostlink.Boot{LogLevel: "loud"}},
		{Boot: &hostlink.Boot{LogLevel: "info", Chains: make([]hostlink.BootChain, 3)}},
		{Attest: &hostlink.Attest{ChainID: chainID}},
		{Attest: &hostlink.Attest{ChainID: "chain-2", Nonce: make([]byte, 512)}},
		{Attest: &hostlink.Attest{ChainID: chainID, Nonce: make([]byte, 513)}},
		{Attest: &hostlink.Attest{}},
		{NewState: &hostlink.NewState{ChainID: chainID, Wrapped: v.wrapped, AfterHeight: 1 << 40, Credentials: credentials}},
		{NewState: &hostlink.NewState{ChainID: "chain-3", Wrapped: third.wrapped, AfterHeight: 100, Credentials: credentials}},
		{NewState: &hostlink.NewState{ChainID: "chain-3", Wrapped: third.wrapped, AfterHeight: 99, Credentials: credentials}},
		{NewState: &hostlink.NewState{}},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	answered := map[int]int{}
	for range 6 {
		for _, i := range rng.Perm(len(requests)) {
			_, err := e.ask(requests[i])
			if refused, ok := errors.AsType[*hostlink.RefusedError](err); err != nil && !ok {
				t.Fatalf("request %d is not answered: %v", i, err)
			} else if ok && refused.Text == "" {
				t.Errorf("request %d is refused without a word", i)
			}
			if err == nil {
				answered[i]++
			}
		}
	}
	if answered[0] != 6 || answered[1] != 6 || answered[7] != 1 || answered[17] == 0 {
		t.Errorf("answered, by request: %v", answered)
	}
	e.signsOn(v, d, 1)
	e.signsOn(other, d, 1)
}

// sealedImport returns a key of elsewhere, sealed to the enclave.
func sealedImport(t *testing.T, e *running, chain string) *hostlink.Import {
	t.Helper()
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	e.w.keep(key.Secret())
	reply, err := e.ask(hostlink.Request{ImportKey: &hostlink.ImportKey{}})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(publicKeyIn(t, reply.Document))
	if err != nil {
		t.Fatal(err)
	}
	last := vote(chain, 41, 1)
	imp := &hostlink.Import{
		ChainID: chain, KeyType: "ed25519", Public: key.PublicKey().Bytes(),
		Height: 41, Step: 2, SignBytes: last.SignBytes(), Credentials: credentials,
	}
	if err := imp.Seal(public.(*rsa.PublicKey), key.Secret()); err != nil {
		t.Fatal(err)
	}
	return imp
}

// publicKeyIn returns the public key of a document.
func publicKeyIn(t *testing.T, raw []byte) []byte {
	t.Helper()
	if inSGX {
		d, err := document.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		return d.PublicKey
	}
	doc, err := nitro.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return doc.PublicKey
}

// A sealed import is opened once in a boot: a second one would make a record at the
// mark of back then, with a number above all that was signed since.
func TestImportIsNotReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	imp := sealedImport(t, e, chainID)
	reply, err := e.ask(hostlink.Request{Import: imp})
	if err != nil {
		t.Fatal(err)
	}
	v := w.validator(chainID, reply.Created)
	if _, err := e.ask(hostlink.Request{Import: imp}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("imported again: %v", err)
	}
	d := newDisk(t, v)
	e.meet(w.honest(d))
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	e.node(v).refuses(41, 2)
	e.signsOn(v, d, 42)
}

// A host that asks for chains and nodes at random gets no memory for it, and does
// not make the enclave's answers too long for the honest one.
func TestManyChains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	for round := range 20 {
		boot := &hostlink.Boot{LogLevel: "info", Credentials: credentials}
		for i := range 100 {
			boot.Chains = append(boot.Chains, hostlink.BootChain{ID: fmt.Sprint(round, "-", i), Wrapped: []byte("none")})
		}
		if _, err := e.ask(hostlink.Request{Boot: boot}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.hello().Status.Chains); n > 128 {
		t.Errorf("the enclave keeps %d chains that do not exist", n)
	}
	for name, boot := range map[string]*hostlink.Boot{
		"many chains":  {Chains: make([]hostlink.BootChain, 500)},
		"a long id":    {Chains: []hostlink.BootChain{{ID: strings.Repeat("<", 900_000)}}},
		"many nodes":   {Chains: []hostlink.BootChain{{ID: chainID, Wrapped: v.wrapped, Nodes: make([]hostlink.BootNode, 500)}}},
		"a long level": {LogLevel: strings.Repeat("<", 900_000)},
	} {
		if name != "a long level" {
			boot.LogLevel = "info"
		}
		if name == "many chains" {
			for i := range boot.Chains {
				boot.Chains[i].ID = fmt.Sprint(i)
			}
		}
		if _, err := e.ask(hostlink.Request{Boot: boot}); err == nil {
			t.Errorf("%s: taken", name)
		} else if _, ok := errors.AsType[*hostlink.RefusedError](err); !ok && name != "a long id" && name != "a long level" {
			t.Errorf("%s: no answer: %v", name, err) // the long ones are too long as requests
		}
	}
	if n := len(e.hello().Status.Chains); n > 128 {
		t.Errorf("the enclave keeps %d chains that do not exist", n)
	}
	e.signsOn(v, d, 1)
	if n := len(e.hello().Status.Chains); n != 1 {
		t.Errorf("the enclave tells of %d chains", n)
	}
}

// As many nodes as an enclave serves are signed for, and none beyond: each takes
// memory for as long as it is there.
func TestManyNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	var vs []*validator
	for i := range 5 {
		vs = append(vs, e.create(fmt.Sprint("chain-", i)))
	}
	d := newDisk(t, vs...)
	e.meet(w.honest(d))
	boot := func(v *validator, nodes int) error {
		req := bootRequest(v.chain, v.wrapped)
		req.Boot.Chains[0].Nodes = nil
		for i := range nodes {
			req.Boot.Chains[0].Nodes = append(req.Boot.Chains[0].Nodes, hostlink.BootNode{Name: fmt.Sprint("node ", i), Addr: "unix:///node"})
		}
		_, err := e.ask(req)
		return err
	}
	const most = 64
	for _, v := range vs[:4] {
		if err := boot(v, most); err != nil {
			t.Fatal(err)
		}
		for height := range int64(most) {
			e.node(v).signs(height+1, 1)
		}
	}
	last := vs[4]
	if err := boot(last, 1); err == nil || !strings.Contains(err.Error(), "257 nodes of all chains") || !strings.Contains(err.Error(), restartCommand()) {
		t.Errorf("a node too many: %v", err)
	}
	if err := boot(vs[0], most-1); err != nil {
		t.Error(err)
	}
	e.signsOn(last, d, 1)
}

// Requests that announce more than they send, or too much.
func TestOversizeFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	for _, size := range []uint32{1<<20 + 1, 1 << 24, 1 << 31, 1<<32 - 1} {
		conn := e.call()
		conn.Write(binary.BigEndian.AppendUint32(nil, size))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("a frame of %d bytes is waited for", size)
		}
		conn.Close()
	}
	// The longest that is allowed, and too deep.
	for _, text := range []string{strings.Repeat("[", 1<<20), `{"hello":` + strings.Repeat(`{"a":`, 1<<17), `{"hello":{},"hello":{},"boot":{}}`, `{"Hello":null}`} {
		conn := e.call()
		writeFrame(conn, []byte(text))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%.20s… is answered", text)
		}
		conn.Close()
	}
	e.signsOn(v, newDisk(t, v), 1)
}

// Requests that are as long as a request may be, eight at once, and that decode to
// far more than they are: an enclave has 64 MiB for all.
func TestRequestsThatEatMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	n := e.node(v)
	n.signs(1, 1)
	height := int64(2)
	for _, parts := range map[string][3]string{
		"chains":            {`{"boot":{"log_level":"info","chains":[`, `{},`, `{}]}}`},
		"as many as may be": {`{"boot":{"log_level":"info","chains":[` + strings.Repeat("{},", 19_990), ` `, `{}]}}`},
		"null chains":       {`{"boot":{"log_level":"info","chains":[`, `null,`, `null]}}`},
		"nodes":             {`{"boot":{"log_level":"info","chains":[{"id":"c","nodes":[`, `{},`, `{}]}]}}`},
		"bytes one by one":  {`{"boot":{"log_level":"info","chains":[{"id":"c","wrapped":[`, `1,`, `1]}]}}`},
		"one key twice":     {`{"boot":{`, `"log_level":"debug",`, `"log_level":"info"}}`},
		"a long import":     {`{"import":{"chain_id":"c","key_type":"ed25519","fresh":true,"sealed":"`, `AAAA`, `"}}`},
		"a long id":         {`{"attest":{"chain_id":"`, `<`, `"}}`},
		"depth":             {`{"boot":{"chains":`, `[`, ``},
	} {
		text := parts[0] + strings.Repeat(parts[1], (1<<20-len(parts[0])-len(parts[2]))/len(parts[1])) + parts[2]
		var group sync.WaitGroup
		for range 8 {
			conn := e.call()
			group.Go(func() {
				defer conn.Close()
				writeFrame(conn, []byte(text))
				conn.(vsock.Conn).CloseWrite()
				io.Copy(io.Discard, conn) // one answer, or none
			})
		}
		// A node is signed for meanwhile.
		n = n.signsAtLast(height, 1)
		height++
		group.Wait()
		e.hello()
	}
	e.signsOn(v, d, height)
}

// A host that takes the connection to a node and never answers is asked again, and
// an identity that comes later brings the nodes that need it.
func TestNodesThatCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	h := w.honest(d)
	honest, asked := h.node, make(chan struct{}, 16)
	h.node = func(conn net.Conn) {
		select {
		case asked <- struct{}{}:
			if len(asked) == 1 {
				io.Copy(io.Discard, conn) // until the enclave gives up
				return
			}
		default:
		}
		honest(conn)
	}
	e.meet(h)
	if s := e.boot(v); s.Problem != "" {
		t.Fatal(s.Problem)
	}
	e.node(v).signs(1, 1)

	tcp := bootRequest(v.chain, v.wrapped)
	tcp.Boot.Chains[0].Nodes = []hostlink.BootNode{{Name: "far", Addr: "tcp://127.0.0.1:26659"}}
	if _, err := e.ask(tcp); err != nil {
		t.Fatal(err)
	}
	reply, err := e.ask(hostlink.Request{Create: &hostlink.Create{KeyType: "ed25519", Credentials: credentials}})
	if err != nil {
		t.Fatal(err)
	}
	tcp.Boot.Chains[0].Identity = reply.Created.Wrapped
	for len(h.dialled(v.chain)) > 0 {
		<-h.dialled(v.chain)
	}
	if _, err := e.ask(tcp); err != nil {
		t.Fatal(err)
	}
	e.node(v).conn.Close() // it is dialled
	e.signsOn(v, d, 2)
}
