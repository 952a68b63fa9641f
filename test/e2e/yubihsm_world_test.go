package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/pubkey"
	"privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/yubihsm"
)

const (
	signerAuth     = 4 // the signer's authentication key
	chainsOfFaulty = 3 // each with a key of that number
	// mostSessions are those that a signer has on a device: one, and those that it has left
	// and that may still be there. Half of the device's 16 are for others.
	mostSessions = 9
)

// faulty is a signer of three validators whose keys are on devices that fail.
type faulty struct {
	t      *testing.T
	ctx    context.Context
	dir    string
	seed   [32]byte // of the keys: the host remembers what a key has signed
	dev    []*yubihsmtest.Device
	signer *rig.Signer
	voters []voter
	askers []*asker
	oracle *oracle

	others []*yubihsm.Session // of others on the first device
	taken  atomic.Int64       // how many these are
}

// voter is a validator: how many votes it had signed, and how many it lost.
type voter struct{ votes, lost func() int64 }

// newFaulty starts the signer and those who ask it. The first of them is a real node if
// there is a version.
func newFaulty(t *testing.T, version string, devices int) *faulty {
	t.Helper()
	w := &faulty{t: t, ctx: story.Within(t, 30*time.Second), dir: newDir(t), oracle: &oracle{signed: map[place][]byte{}}}
	rand.Read(w.seed[:])
	for range devices {
		d := yubihsmtest.New(t, yubihsmtest.Options{SignTime: 2 * time.Millisecond, RealTime: true, Signs: w.oracle.made})
		d.ProvisionAuth(t, signerAuth, "four", yubihsmtest.CanSignEdDSA)
		w.keys(func(id uint16) { w.provision(d, id) })
		w.dev = append(w.dev, d)
	}
	check(t, os.WriteFile(filepath.Join(w.dir, "password"), []byte("four"), 0o600))
	args := []string{"--yubihsm-auth-key", fmt.Sprint(signerAuth), "--yubihsm-password-file", filepath.Join(w.dir, "password")}
	for _, d := range w.dev {
		args = append(args, "--yubihsm-device", d.URL())
	}
	w.init(1, args...)
	var node *rig.Node
	if version != "" {
		node = w.newNode(version)
	} else {
		w.ask(1)
	}
	for id := 2; id <= chainsOfFaulty; id++ {
		w.init(id)
		w.ask(id)
	}
	w.oracle.listens.Store(true)
	story.StartSigner(t, w.signer)
	if node != nil {
		startNode(t, node, "unix://"+w.socket(1))
		check(t, node.WaitHeight(w.ctx, 1))
	}
	return w
}

func (w *faulty) chain(id int) string  { return fmt.Sprint("faulty-", id) }
func (w *faulty) socket(id int) string { return filepath.Join(w.dir, fmt.Sprint(id, ".sock")) }

// init makes a chain whose key is on the devices.
func (w *faulty) init(id int, more ...string) {
	w.t.Helper()
	args := append([]string{"--provider", "yubihsm", "--yubihsm-take", "--yubihsm-key-id", fmt.Sprint(id), "--fresh-state", "--yes"}, more...)
	var err error
	if id == 1 {
		w.signer, err = rig.InitSigner(w.ctx, program, filepath.Join(w.dir, "signer"), w.chain(id), []string{"unix://" + w.socket(id)}, args...)
	} else {
		_, err = rig.Output(w.ctx, program, append([]string{"init", "--home", w.signer.Home, "--chain-id", w.chain(id), "--node", "unix://" + w.socket(id)}, args...)...)
	}
	check(w.t, err)
}

// newNode makes a lone validator of the first chain. A vote that it lost shows in its log,
// and as a round above the first one.
func (w *faulty) newNode(version string) *rig.Node {
	w.t.Helper()
	node, err := rig.InitNode(w.ctx, version, filepath.Join(w.dir, "node"))
	need(w.t, err)
	check(w.t, node.Configure("consensus", "timeout_propose", "1m"))
	key, text := showKey(w.ctx, w.t, w.signer)
	check(w.t, node.EditGenesis(func(g *rig.Genesis) {
		g.SetChainID(w.chain(1))
		g.SetValidator(0, text, string(key.Type()))
		g.EnableVoteExtensions()
	}))
	seen, rounds := int64(0), int64(0)
	height := func() int64 {
		h, err := node.Height(w.ctx)
		check(w.t, err)
		return h
	}
	w.voters = append(w.voters, voter{height, func() int64 {
		for last := height() - 1; seen < last; {
			seen++
			commit, err := node.Commit(w.ctx, seen)
			check(w.t, err)
			rounds += int64(commit.Round)
			signBytes, signature, ok := commit.SignatureOf(address(w.t, key))
			if !ok || !key.Verify(signBytes, signature) {
				w.t.Errorf("the commit of block %d has no signature of ours: %+v", seen, commit)
			}
			w.oracle.got(w.chain(1), signBytes)
		}
		log, err := os.ReadFile(node.Log)
		check(w.t, err)
		return rounds + int64(strings.Count(strings.ToLower(string(log)), "failed signing"))
	}})
	return node
}

// lost returns how many votes each validator lost.
func (w *faulty) lost() (list []int64) {
	for _, v := range w.voters {
		list = append(list, v.lost())
	}
	return list
}

// more waits until each validator had more votes signed.
func (w *faulty) more(votes int64) {
	w.t.Helper()
	for i, v := range w.voters {
		from := v.votes()
		w.await(fmt.Sprintf("%s has votes signed", w.chain(i+1)), func() bool { return v.votes() >= from+votes })
	}
}

// await waits until a condition holds.
func (w *faulty) await(what string, ok func() bool) {
	w.t.Helper()
	for ; !ok(); time.Sleep(5 * time.Millisecond) {
		if w.ctx.Err() != nil {
			w.t.Fatalf("not so: %s; lost votes: %v; sessions: %d", what, w.lost(), w.dev[0].Sessions())
		}
	}
}

// suffers has a fault strike, and end.
func (w *faulty) suffers(f fault) {
	w.t.Helper()
	w.more(6)
	before := w.lost()
	if isAlone := len(w.dev) == 1; f.ends != nil && isAlone {
		before = w.isOut(f)
	} else {
		w.do(f.strikes)
		w.await("the fault strikes", func() bool { return w.dev[0].Armed() == 0 })
		if f.ends != nil {
			says(w.ctx, w.t, w.signer, "a YubiHSM failed")
			w.more(6)
			w.lostOneAtMost("with the other device", before)
			w.do(f.ends)
		}
	}
	w.more(6)
	w.await("all devices are well", w.isWell)
	w.more(6)
	w.lostOneAtMost("when it is over", before)
}

// isOut has a fault strike the only device, until everybody has lost a vote, and returns how
// many these are when the fault is over.
func (w *faulty) isOut(f fault) (before []int64) {
	w.t.Helper()
	over := make(chan struct{})
	for _, a := range w.askers {
		a.down.Store(&over)
	}
	was := w.lost()
	w.do(f.strikes)
	for i, v := range w.voters {
		if len(w.voters)-i <= len(w.askers) { // a node asks again until it is over
			w.await("a vote is lost", func() bool { return v.lost() > was[i] })
		}
	}
	w.do(f.ends)
	before = w.lost()
	for _, a := range w.askers {
		a.down.Store(nil)
	}
	close(over)
	return before
}

// isWell reports whether each device that failed is back.
func (w *faulty) isWell() bool {
	log, err := os.ReadFile(w.signer.Log)
	check(w.t, err)
	return bytes.Count(log, []byte("a YubiHSM failed")) == bytes.Count(log, []byte("a YubiHSM is back"))
}

func (w *faulty) lostOneAtMost(when string, before []int64) {
	w.t.Helper()
	for i, now := range w.lost() {
		if now > before[i]+1 {
			w.t.Errorf("%s: %s lost %d votes", when, w.chain(i+1), now-before[i])
		}
	}
}

// sessionsFall lets as much time pass as devices keep a session that nobody uses.
func (w *faulty) sessionsFall() {
	w.t.Helper()
	for _, d := range w.dev {
		d.Advance(yubihsmtest.IdleTime + time.Second)
	}
	w.more(6)
	for i, d := range w.dev {
		if n := d.Sessions(); n > 1 || n < 1-i {
			w.t.Errorf("device %d has %d sessions", i+1, n)
		}
	}
	for _, a := range w.askers {
		if n := a.sessions.Load(); n > mostSessions {
			w.t.Errorf("the signer had %d sessions on a device", n)
		}
	}
}

// asker is a validator's node, as far as a signer sees it: it asks for prevotes and
// precommits with extensions, for each of them once. A vote that it does not get is lost.
type asker struct {
	w        *faulty
	chain    string
	key      pubkey.Key
	listener net.Listener
	got      atomic.Int64
	missed   atomic.Int64
	sessions atomic.Int64 // the most that the signer had on a device
	// down is closed when there is something to ask for again after a lost vote; nil at once.
	down atomic.Pointer[chan struct{}]
}

// ask adds a validator, whose node listens until the test ends.
func (w *faulty) ask(id int) {
	w.t.Helper()
	key, err := pubkey.New(pubkey.Ed25519, w.dev[0].Public(w.t, uint16(id)))
	check(w.t, err)
	a := &asker{w: w, chain: w.chain(id), key: key}
	a.listener, err = net.Listen("unix", w.socket(id))
	check(w.t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.run()
	}()
	w.t.Cleanup(func() { a.listener.Close(); <-ended })
	w.askers = append(w.askers, a)
	w.voters = append(w.voters, voter{a.got.Load, a.missed.Load})
}

func (a *asker) run() {
	for height := int64(1); ; height++ {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		height = a.serve(conn, height)
		conn.Close()
		a.missed.Add(1)
		if over := a.down.Load(); over != nil {
			select {
			case <-*over:
			case <-a.w.ctx.Done():
			}
		}
	}
}

// serve asks for one height after the other, and returns the one at which a vote was lost.
func (a *asker) serve(conn net.Conn, height int64) int64 {
	r := bufio.NewReader(conn)
	block := privval.BlockID{Hash: bytes.Repeat([]byte{1}, 32), PartsTotal: 1, PartsHash: make([]byte, 32)}
	for ; ; height++ {
		for _, kind := range []privval.Kind{privval.KindPrevote, privval.KindPrecommit} {
			req := privval.Request{Kind: kind, ChainID: a.chain, Height: height, BlockID: block, Timestamp: privval.Timestamp{Seconds: height}}
			if kind == privval.KindPrecommit {
				req.Extension = []byte("of a validator")
			}
			resp, err := privvaltest.Call(conn, r, req)
			if err != nil {
				return height
			}
			a.judge(req, resp)
		}
		time.Sleep(10 * time.Millisecond) // the pace of the chain, not a wait
	}
}

// judge checks an answer, and how many sessions there are.
func (a *asker) judge(req privval.Request, resp privval.Response) {
	hasExtension := req.Kind == privval.KindPrecommit
	if !a.key.Verify(req.SignBytes(), resp.Signature) || hasExtension && !a.key.Verify(req.ExtensionSignBytes(), resp.ExtensionSignature) {
		a.w.t.Errorf("%s, height %d: %+v", a.chain, req.Height, resp)
		return
	}
	a.w.oracle.got(a.chain, req.SignBytes())
	for i, d := range a.w.dev {
		n := int64(d.Sessions())
		if i == 0 {
			n -= a.w.taken.Load()
		}
		a.sessions.Store(max(a.sessions.Load(), n))
	}
	a.got.Add(1)
}

// place is what may be signed once. Kind 0 is an extension.
type place struct {
	chain         string
	kind          uint64
	height, round uint64
}

// oracle knows all that was signed: it hears of every signature that devices make, and of
// every vote that a node got.
type oracle struct {
	listens atomic.Bool // false: devices are tried out

	mu     sync.Mutex
	signed map[place][]byte
	wrong  []string
	votes  int
}

// made hears of a signature that a device makes.
func (o *oracle) made(key uint16, message []byte) {
	if !o.listens.Load() || len(message) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := placeOf(message)
	switch before := o.signed[p]; {
	case !ok || !strings.HasSuffix(p.chain, fmt.Sprint("-", key)):
		o.wrong = append(o.wrong, fmt.Sprintf("key %d signs %x", key, message))
	case before != nil && !bytes.Equal(before, message):
		o.wrong = append(o.wrong, fmt.Sprintf("DOUBLE SIGN at %+v", p))
	}
	o.signed[p] = message
}

// got hears of a vote that a node got.
func (o *oracle) got(chain string, signBytes []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.votes++
	if p, ok := placeOf(signBytes); !ok || p.chain != chain || !bytes.Equal(o.signed[p], signBytes) {
		o.wrong = append(o.wrong, fmt.Sprintf("%s got a vote at %+v that no device has signed", chain, p))
	}
}

func (o *oracle) check(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.wrong) > 0 || o.votes < 20 || len(o.signed) < o.votes {
		t.Errorf("of %d votes, and %d that were signed: %q", o.votes, len(o.signed), o.wrong)
	}
}

// placeOf reads canonical sign bytes (proto/tendermint/types/canonical.proto).
func placeOf(signBytes []byte) (p place, ok bool) {
	body, n := protowire.ConsumeBytes(signBytes)
	if n != len(signBytes) {
		return p, false
	}
	last := protowire.Number(0)
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 || number <= last {
			return p, false
		}
		last, body = number, body[n:]
		var value uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(body)
		case protowire.Fixed64Type:
			value, n = protowire.ConsumeFixed64(body)
		default:
			text, n = protowire.ConsumeBytes(body)
		}
		if n < 0 {
			return p, false
		}
		body = body[n:]
		switch {
		case number == 1 && kind == protowire.VarintType:
			p.kind = value
		case number == 2:
			p.height = value
		case number == 3:
			p.round = value
		}
		p.chain = string(text) // the last field
	}
	return p, p.chain != ""
}
