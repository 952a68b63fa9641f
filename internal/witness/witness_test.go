package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

const chainID = "chain-1"

var ourKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
var ourAddress = [20]byte{1, 2, 3}

func ourVerify(msg, sig []byte) bool {
	return ed25519.Verify(ourKey.Public().(ed25519.PublicKey), msg, sig)
}

// node is a CometBFT node as far as its RPC goes. What it shows is set by a test.
type node struct {
	*httptest.Server
	mu         sync.Mutex
	network    string
	tip        int64
	claim      int64 // of a tip, above the true one
	catchingUp bool
	commits    map[int64][]sigJSON
	handle     func(http.ResponseWriter, *http.Request) bool // true: it has answered
	asked      int
	together   int // requests at once, and the most that ever were
	most       int
}

type sigJSON struct {
	Flag      int     `json:"block_id_flag"`
	Address   string  `json:"validator_address"`
	Timestamp string  `json:"timestamp"`
	Signature *string `json:"signature"`
}

func newNode(t *testing.T, tip int64) *node {
	n := &node{network: chainID, tip: tip, commits: map[int64][]sigJSON{}}
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *node) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.asked++
	n.together++
	n.most = max(n.most, n.together)
	handle := n.handle
	n.mu.Unlock()
	defer func() { n.mu.Lock(); n.together--; n.mu.Unlock() }()
	if handle != nil && handle(w, r) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r.URL.Path {
	case "/status":
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"node_info":{"network":%q,"version":"0.38.26"},"sync_info":{"latest_block_height":"%d","catching_up":%t}}}`,
			n.network, max(n.tip, n.claim), n.catchingUp)
	case "/commit":
		var height int64
		fmt.Sscan(r.URL.Query().Get("height"), &height)
		if height < 1 || height > n.tip {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"error":{"code":-32603,"message":"Internal error","data":"height %d must be less than or equal to the current blockchain height %d"}}`, height, n.tip)
			return
		}
		sigs := append([]sigJSON{sign(otherKey, "FF", height, 2, time.Now())}, n.commits[height]...)
		text, _ := json.Marshal(sigs)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"signed_header":{"header":{"chain_id":%q,"height":"%d","time":%q},"commit":{"height":"%d","round":0,"block_id":{"hash":"%064X","parts":{"total":1,"hash":"%064X"}},"signatures":%s}},"canonical":true}}`,
			n.network, height, time.Now().UTC().Format(time.RFC3339Nano), height, height, height, text)
	default:
		http.NotFound(w, r)
	}
}

// grow adds blocks, with a vote of a key if flag is not 0: 2 for the block, 3 for nil.
func (n *node) grow(blocks int, key ed25519.PrivateKey, flag int, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range blocks {
		n.tip++
		if flag != 0 {
			n.commits[n.tip] = []sigJSON{sign(key, fmt.Sprintf("%X", ourAddress[:]), n.tip, flag, at)}
		}
	}
}

func (n *node) set(f func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// precommit returns the mark of a vote at round 0 of the block that a node has there,
// or for nil.
func precommit(height int64, flag int, at time.Time) watermark.Mark {
	r := privval.Request{
		Kind: privval.KindPrecommit, ChainID: chainID, Height: height,
		Timestamp: privval.Timestamp{Seconds: at.Unix(), Nanos: int32(at.Nanosecond())},
	}
	if flag == 2 {
		hash := fmt.Appendf(nil, "%064X", height)
		fmt.Sscanf(string(hash), "%X", &r.BlockID.Hash)
		fmt.Sscanf(string(hash), "%X", &r.BlockID.PartsHash)
		r.BlockID.PartsTotal = 1
	}
	return watermark.Mark{Height: height, Step: watermark.StepPrecommit, SignBytes: r.SignBytes()}
}

func sign(key ed25519.PrivateKey, address string, height int64, flag int, at time.Time) sigJSON {
	sig := base64.StdEncoding.EncodeToString(ed25519.Sign(key, precommit(height, flag, at).SignBytes))
	return sigJSON{flag, address, at.UTC().Format(time.RFC3339Nano), &sig}
}

// world is a watch under test.
type world struct {
	*Watch
	t      *testing.T
	proofs chan Proof
	passed chan struct{}
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func watch(t *testing.T, mark watermark.Mark, edit func(*Config), addrs ...string) *world {
	t.Helper()
	return watchShared(t, mark, nil, edit, addrs...)
}

func watchShared(t *testing.T, mark watermark.Mark, load Load, edit func(*Config), addrs ...string) *world {
	t.Helper()
	w := &world{t: t, proofs: make(chan Proof, 10), passed: make(chan struct{}, 10), log: &lockedBuffer{}}
	c := Config{
		ChainID: chainID, Addrs: addrs, Address: ourAddress, Verify: ourVerify,
		Proved: func(p Proof) { w.proofs <- p },
		Passed: func() error { w.passed <- struct{}{}; return nil },
		Log:    slog.New(slog.NewTextHandler(io.MultiWriter(w.log, io.Discard), nil)),
	}
	if edit != nil {
		edit(&c)
	}
	var err error
	if w.Watch, err = New(c); err != nil {
		t.Fatal(err)
	}
	if b := w.Bounds(); b.Hold == "" {
		t.Error("open before it runs")
	}
	w.Begin(mark, load)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits for a state of the watch.
func (w *world) until(what string, ok func(watermark.Bounds) bool) watermark.Bounds {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute) // however busy the machine is
	for {
		b := w.Bounds()
		if ok(b) {
			return b
		}
		if isStopped(b) || time.Now().After(deadline) { // the one never ends, the other is too long
			w.t.Fatalf("not %s: %+v, %+v\n%s", what, b, w.Snapshot(), w.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func isOpen(b watermark.Bounds) bool    { return b.Hold == "" && b.Stop == "" }
func isStopped(b watermark.Bounds) bool { return b.Stop != "" }

// quarantined waits for the end of the start, which has to be a quarantine.
func (w *world) quarantined() {
	w.t.Helper()
	b := w.until("started", func(b watermark.Bounds) bool { return isOpen(b) || strings.Contains(b.Hold, "quarantine") })
	if isOpen(b) {
		w.t.Fatalf("open, and not in quarantine: %+v\n%s", w.Snapshot(), w.log)
	}
}

// found waits until the commits up to a tip were judged, and returns what they proved.
func (w *world) found(tip int64) Proof {
	w.t.Helper()
	b := w.until(fmt.Sprintf("stopped at tip %d", tip), func(b watermark.Bounds) bool { return isStopped(b) || b.Tip >= tip })
	if !isStopped(b) {
		w.t.Fatalf("tip %d was judged, and nothing is proved: %+v\n%s", b.Tip, w.Snapshot(), w.log)
	}
	return <-w.proofs
}

func (w *world) tip(height int64) watermark.Bounds {
	w.t.Helper()
	return w.until(fmt.Sprintf("at tip %d", height), func(b watermark.Bounds) bool { return b.Tip == height })
}

func quarantine(c *Config) { c.Quarantine = true }

// The start rule: what is signed after a load is above the tip, by one more if
// the mark is below it.
func TestStartRule(t *testing.T) {
	for _, c := range []struct{ tip, mark, floor int64 }{
		{200, 100, 201}, {200, 199, 201}, {200, 200, 200}, {200, 201, 200}, {200, 0, 201}, {0, 0, 0}, {0, 7, 0}, {1, 0, 2},
	} {
		n := newNode(t, c.tip)
		mark := watermark.Mark{}
		if c.mark > 0 {
			mark = precommit(c.mark, 2, time.Unix(1, 0))
		}
		w := watch(t, mark, nil, n.URL)
		if b := w.until("open", isOpen); b.Floor != c.floor || b.Tip != c.tip {
			t.Errorf("%+v: %+v", c, b)
		}
	}
}

// Which signature of ours in the last commits proves that the state is old, or that
// another signer lives.
func TestWhatAStartFinds(t *testing.T) {
	then := time.Unix(1_800_000_000, 5)
	for _, c := range []struct {
		name   string
		mark   watermark.Mark
		at     int64 // where our key has signed, in a chain of 200
		flag   int
		key    ed25519.PrivateKey
		proves bool
	}{
		{"above the mark", precommit(150, 2, then), 198, 2, ourKey, true},
		{"nil, above the mark", precommit(150, 2, then), 198, 3, ourKey, true},
		{"right after the mark", precommit(150, 2, then), 151, 2, ourKey, true},
		{"at the tip", precommit(150, 2, then), 200, 2, ourKey, true},
		{"at the mark, the same", precommit(199, 2, then), 199, 2, ourKey, false},
		{"at the mark, another block", precommit(199, 3, then), 199, 2, ourKey, true},
		{"at the mark, another time", precommit(199, 2, then.Add(1)), 199, 2, ourKey, true},
		{"at a mark without bytes", watermark.Mark{Height: 199, Step: watermark.StepPrecommit}, 199, 2, ourKey, false},
		{"at a floor", watermark.Floor(199), 199, 2, ourKey, false},
		{"a prevote is the mark there", watermark.Mark{Height: 199, Step: watermark.StepPrevote}, 199, 2, ourKey, true},
		{"below the mark", precommit(199, 2, then), 198, 2, ourKey, false},
		{"the mark is ahead of the chain", precommit(201, 2, then), 200, 2, ourKey, false},
		{"a fresh state", watermark.Mark{}, 199, 2, ourKey, true},
		{"a lie", precommit(150, 2, then), 198, 2, otherKey, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, 200)
			n.commits[c.at] = []sigJSON{sign(c.key, fmt.Sprintf("%X", ourAddress[:]), c.at, c.flag, then)}
			w := watch(t, c.mark, nil, n.URL)
			if !c.proves {
				w.until("open", isOpen)
				if lies := w.Snapshot().Lies; (lies > 0) != (c.name == "a lie") {
					t.Errorf("%d lies", lies)
				}
				return
			}
			p := w.found(200)
			if p.Height != c.at || !ourVerify(p.SignBytes, p.Signature) || p.Witness != n.URL || p.Phase != "waiting" {
				t.Errorf("%+v", p)
			}
		})
	}
}

// While it runs: what we made is ours, what we did not make is not.
func TestAlarm(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := newNode(t, 10)
	w := watch(t, precommit(10, 2, now), nil, n.URL)
	w.until("open", isOpen)
	for h := int64(11); h <= 14; h++ {
		m := precommit(h, 2, now)
		w.Signed(m, []byte("sig"))
		w.Signed(m, []byte("sig"))
		n.grow(1, ourKey, 2, now)
		w.tip(h)
	}
	n.grow(1, ourKey, 0, now) // we missed one
	n.grow(1, otherKey, 2, now)
	w.tip(16)
	if w.Snapshot().Lies == 0 {
		t.Error("a signature that does not verify is no lie")
	}
	w.Signed(precommit(17, 3, now), []byte("ours"))
	n.grow(1, ourKey, 2, now)
	p := w.found(17)
	if p.Height != 17 || !bytes.Equal(p.Ours, precommit(17, 3, now).SignBytes) || string(p.OursSignature) != "ours" || p.Phase != "open" {
		t.Errorf("%+v", p)
	}
	if s := w.Snapshot(); s.State != Stopped || !strings.Contains(s.Detail, "height 17, round 0") {
		t.Errorf("%+v", s)
	}
}

// A second signer shows itself in the final commit of a block even where the node had
// not seen its vote when the block was new.
func TestAlarmInTheFinalCommit(t *testing.T) {
	t.Parallel()
	now := time.Now()
	n := newNode(t, 10)
	w := watch(t, precommit(10, 2, now), nil, n.URL)
	w.until("open", isOpen)
	n.grow(1, ourKey, 0, now)
	w.tip(11)
	n.set(func(n *node) {
		n.commits[11] = []sigJSON{sign(ourKey, fmt.Sprintf("%x", ourAddress[:]), 11, 2, now)}
		n.tip = 12
	})
	if p := w.found(12); p.Height != 11 || p.Ours != nil {
		t.Errorf("%+v", p)
	}
}

// A quarantine ends when the chain has shown blocks without us.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	n := newNode(t, 100)
	w := watch(t, watermark.Floor(100), quarantine, n.URL)
	w.quarantined()
	// Whoever signed before us may have been in the middle of the next height.
	n.grow(1, ourKey, 2, time.Now().Add(-time.Minute))
	n.grow(1, nil, 0, time.Time{})
	w.tip(102)
	n.grow(QuarantineBlocks-1, nil, 0, time.Time{})
	w.tip(102 + QuarantineBlocks - 1)
	if b := w.Bounds(); b.Hold == "" {
		t.Errorf("open too soon: %+v", b)
	}
	n.grow(1, nil, 0, time.Time{})
	b := w.until("open", isOpen)
	if b.Floor != 106 { // tip 105, and the mark is below it
		t.Errorf("%+v", b)
	}
	select {
	case <-w.passed:
	case <-time.After(20 * time.Second):
		t.Error("nobody heard that it is over")
	}
}

// A second signer that lives is found before we sign anything.
func TestQuarantineFindsTheOther(t *testing.T) {
	t.Parallel()
	n := newNode(t, 100)
	w := watch(t, watermark.Floor(1000), quarantine, n.URL)
	w.quarantined()
	n.grow(2, ourKey, 2, time.Now())
	if p := w.found(102); p.Phase != "quarantine" || p.Height != 102 {
		t.Errorf("%+v", p)
	}
	select {
	case <-w.passed:
		t.Error("passed")
	default:
	}
}

// What the old signer did before we began proves nothing: the height that it was in
// the middle of, whenever it is dated; what it signed long ago, wherever it comes up.
func TestQuarantineOfTheOldSigner(t *testing.T) {
	t.Parallel()
	for name, votes := range map[string]func(n *node){
		"the next height, late": func(n *node) { n.grow(1, ourKey, 2, time.Now().Add(time.Minute)) },
		"an old vote":           func(n *node) { n.grow(1, nil, 0, time.Time{}); n.grow(1, ourKey, 2, time.Now().Add(-time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, 100)
			w := watch(t, watermark.Floor(100), quarantine, n.URL)
			w.quarantined()
			votes(n)
			n.grow(QuarantineBlocks+2, nil, 0, time.Time{})
			w.until("open", isOpen)
			<-w.passed
		})
	}
}

// After a quarantine, a witness that lags shows what the first one has shown in it.
func TestQuarantineIsNotJudgedAgain(t *testing.T) {
	t.Parallel()
	n, lags := newNode(t, 100), newNode(t, 100)
	w := watch(t, watermark.Floor(100), quarantine, n.URL, lags.URL)
	w.quarantined()
	at := time.Now().Add(-time.Minute)
	n.grow(1, ourKey, 2, at)
	n.grow(QuarantineBlocks+1, nil, 0, time.Time{})
	w.until("open", isOpen)
	lags.grow(1, ourKey, 2, at)
	lags.grow(QuarantineBlocks+1, nil, 0, time.Time{})
	w.until("at the tip of both", func(watermark.Bounds) bool {
		for _, s := range w.Snapshot().Sources {
			if s.Tip != 102+QuarantineBlocks {
				return false
			}
		}
		return true
	})
	if b := w.Bounds(); !isOpen(b) {
		t.Errorf("%+v", b)
	}
}

// Of a mark without sign bytes nobody knows what was signed there: nothing is proved.
func TestMarkWithoutBytes(t *testing.T) {
	t.Parallel()
	n := newNode(t, 99)
	n.grow(1, ourKey, 2, time.Now())
	mark := precommit(100, 2, time.Now())
	mark.SignBytes = nil
	w := watch(t, mark, nil, n.URL)
	w.until("open", isOpen)
	n.grow(1, nil, 0, time.Time{})
	if b := w.tip(101); !isOpen(b) {
		t.Errorf("%+v", b)
	}
}

// Witnesses that fail in any way stop nobody, and cost little.
func TestHostileWitnesses(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"garbage": func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, "\x00\xff garbage"); return true },
		"a gigabyte": func(w http.ResponseWriter, r *http.Request) bool {
			chunk := bytes.Repeat([]byte(`{"a":`), 1<<16)
			for range 1 << 30 / len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					return true
				}
			}
			return true
		},
		"hangs": func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true },
		"redirects": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
			return true
		},
		"metrics port": func(w http.ResponseWriter, r *http.Request) bool {
			io.WriteString(w, "# HELP cometbft_x y\ncometbft_x 1\n")
			return true
		},
		"hangs up":     func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) },
		"null":         func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, "null"); return true },
		"empty result": func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, `{"result":{}}`); return true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := newNode(t, 100), newNode(t, 200)
			bad.handle = handle
			mark := precommit(200, 2, time.Now())
			// It is the good one that opens, and not the end of the wait.
			w := watch(t, mark, func(c *Config) { c.Wait = time.Hour }, bad.URL, good.URL)
			if b := w.until("open", isOpen); b.Tip != 200 {
				t.Errorf("%+v", b)
			}
			alone := watch(t, mark, func(c *Config) { c.Wait = 50 * time.Millisecond }, bad.URL)
			if b := alone.until("open", isOpen); b.Tip != 0 || b.Floor != 0 {
				t.Errorf("%+v", b)
			}
			if s := alone.Snapshot(); !strings.Contains(s.Detail, "no witness answers") {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Where a redirect leads, nobody has checked.
func TestRedirect(t *testing.T) {
	t.Parallel()
	good, bad := newNode(t, 200), newNode(t, 100)
	bad.handle = func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, good.URL+r.URL.String(), http.StatusFound)
		return true
	}
	w := watch(t, precommit(200, 2, time.Now()), func(c *Config) { c.Wait = 300 * time.Millisecond }, bad.URL)
	if b := w.until("open", isOpen); b.Tip != 0 {
		t.Errorf("%+v", b)
	}
}

// A node of another chain is named, and not waited for.
func TestWrongChain(t *testing.T) {
	t.Parallel()
	n := newNode(t, 100)
	n.network = "other-chain"
	c, err := NewClient(n.URL, ourAddress)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), chainID); !errors.Is(err, errWrongChain) {
		t.Fatalf("%v, want %v", err, errWrongChain)
	}
	w := watch(t, precommit(10, 2, time.Now()), nil, n.URL)
	if b := w.until("open", isOpen); b.Tip != 0 {
		t.Errorf("%+v", b)
	}
	if s := w.Snapshot(); !strings.Contains(s.Sources[0].Problem, `another chain, "other-chain", not of "chain-1"`) {
		t.Errorf("%+v", s)
	}
}

// A tip that is claimed without its commit is a lie, and bounds nothing.
func TestLyingUpwards(t *testing.T) {
	t.Parallel()
	liar, honest := newNode(t, 100), newNode(t, 100)
	for _, claim := range []int64{101, 1_000_000, 1 << 62} {
		liar.set(func(n *node) { n.claim = claim })
		w := watch(t, precommit(100, 2, time.Now()), nil, liar.URL, honest.URL)
		if b := w.until("open", isOpen); b.Tip != 100 || b.Floor != 100 {
			t.Errorf("%+v", b)
		}
		if w.Snapshot().Lies == 0 {
			t.Error("no lie was counted")
		}
	}
}

// The newest witness counts, whatever the others say.
func TestLagging(t *testing.T) {
	t.Parallel()
	old, syncing, good := newNode(t, 50), newNode(t, 20), newNode(t, 100)
	syncing.catchingUp = true
	// However busy the machine is, the good one's first answer has come when it is asked
	// again, and the others answer after that.
	asked, again := 0, make(chan struct{})
	good.handle = func(_ http.ResponseWriter, r *http.Request) bool {
		good.set(func(*node) {
			if r.URL.Path == "/status" {
				if asked++; asked == 2 {
					close(again)
				}
			}
		})
		return false
	}
	wait := func(http.ResponseWriter, *http.Request) bool { <-again; return false }
	old.handle, syncing.handle = wait, wait
	w := watch(t, precommit(100, 2, time.Now()), nil, old.URL, syncing.URL, good.URL)
	if b := w.until("open", isOpen); b.Tip != 100 || b.Floor != 100 {
		t.Errorf("%+v", b)
	}
	// One that catches up says nothing of where the chain is.
	alone := watch(t, precommit(100, 2, time.Now()), func(c *Config) { c.Wait = 300 * time.Millisecond }, syncing.URL)
	if b := alone.until("open", isOpen); b.Tip != 0 {
		t.Errorf("%+v", b)
	}
}

// A witness has one request at a time.
func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	n := newNode(t, 100)
	w := watch(t, precommit(90, 2, time.Now()), nil, n.URL)
	w.until("open", isOpen)
	n.grow(20, nil, 0, time.Time{})
	w.tip(120)
	n.set(func(n *node) {
		if n.most != 1 {
			t.Errorf("%d requests at once", n.most)
		}
	})
}

// What is kept of a proof; a folder that cannot be written loses nothing else.
func TestKeep(t *testing.T) {
	now := time.Now()
	m := precommit(17, 2, now)
	p := Proof{ChainID: chainID, Height: 17, Phase: "open", SignBytes: m.SignBytes, Signature: ed25519.Sign(ourKey, m.SignBytes), Witness: "http://w", Found: now}
	dir := t.TempDir()
	state := filepath.Join(dir, "x.mark")
	path, err := p.Keep(filepath.Join(dir, "evidence"), state, "key=")
	if err != nil {
		t.Fatal(err)
	}
	var e evidence
	data, _ := os.ReadFile(path)
	if err := json.Unmarshal(data, &e); err != nil || e.Height != 17 || e.Ours != nil || e.PublicKey != "key=" {
		t.Errorf("%v: %s", err, data)
	}
	if f, err := ReadFlag(state); err != nil || !f.Stopped || !f.Quarantine || !strings.Contains(f.Why, "height 17") || !strings.HasSuffix(f.Why, p.Witness) {
		t.Errorf("%+v, %v", f, err)
	}
	// Neither a mark that is brought in nor a quarantine that ends takes a stop back.
	if err := SetQuarantine(state, "raised"); err != nil {
		t.Fatal(err)
	}
	if err := ClearFlag(state); err == nil {
		t.Error("the flag of a stop was cleared")
	}
	if f, _ := ReadFlag(state); !f.Stopped {
		t.Errorf("%+v", f)
	}
	if err := Resume(state); err != nil {
		t.Fatal(err)
	}
	if f, _ := ReadFlag(state); f.Stopped || !f.Quarantine || f.Why == "" {
		t.Errorf("%+v", f)
	}
	if err := ClearFlag(state); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadFlag(state); f != (Flag{}) || err != nil {
		t.Errorf("%+v, %v", f, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := p.Keep(file, state, ""); path != "" || err == nil || !strings.Contains(err.Error(), "cannot write the proof") || !strings.Contains(err.Error(), fmt.Sprintf("%q", base64.StdEncoding.EncodeToString(p.Signature))) {
		t.Errorf("%q, %v", path, err)
	}
	if f, _ := ReadFlag(state); !f.Stopped {
		t.Error("the flag was lost with the folder")
	}
	if err := os.WriteFile(state+flagSuffix, bytes.Repeat([]byte{0xff}, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, _ := ReadFlag(state); !f.Quarantine {
		t.Error("a flag of garbage is none")
	}
}

// Noting a precommit costs no memory, and little time.
func TestSignedAllocatesNothing(t *testing.T) {
	n := newNode(t, 1)
	w, err := New(Config{ChainID: chainID, Addrs: []string{n.URL}, Verify: ourVerify, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m := precommit(1, 2, time.Now())
	if got := testing.AllocsPerRun(1000, func() {
		m.Height++
		w.Signed(m, m.SignBytes)
		w.Bounds()
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// What was overwritten in the memory is unknown, and no proof.
func TestMemory(t *testing.T) {
	var r memory
	for h := int64(1); h <= memorySize+10; h++ {
		r.add(watermark.Mark{Height: h, Step: watermark.StepPrecommit, SignBytes: []byte{byte(h)}}, nil)
	}
	at := func(h int64) watermark.Mark { return watermark.Mark{Height: h, Step: watermark.StepPrecommit} }
	for h, want := range map[int64][2]bool{
		1: {false, false}, 10: {false, false}, 11: {true, true}, memorySize + 10: {true, true}, memorySize + 11: {false, true},
	} {
		if s, found, known := r.find(at(h)); found != want[0] || known != want[1] || found && s.mark.Height != h {
			t.Errorf("%d: %v %v %v", h, s, found, known)
		}
	}
}

func BenchmarkSigned(b *testing.B) {
	var r memory
	m := watermark.Mark{Step: watermark.StepPrecommit, SignBytes: make([]byte, 120)}
	for b.Loop() {
		m.Height++
		r.add(m, m.SignBytes)
	}
}

// How time ends a quarantine: the chain waits for us, or nobody answers any more.
func TestTimeInAQuarantine(t *testing.T) {
	for name, c := range map[string]struct {
		quiet, silent time.Duration // since the last block, since the last answer
		blind         time.Duration // since a final commit was seen
		ahead         int64         // of the last one that was seen is the tip
		open, passed  bool
		warning       string
	}{
		"a chain that goes on":              {quiet: time.Second, ahead: 1},
		"a chain that stands":               {quiet: quarantineSilence, open: true, passed: true},
		"nearly":                            {quiet: quarantineSilence - 1},
		"and nobody says so":                {quiet: quarantineSilence, silent: maxPause},
		"nobody answers any more":           {quiet: time.Second, silent: DefaultWait, open: true, warning: "no witness answers any more"},
		"nobody, for a long while":          {quiet: time.Hour, silent: time.Hour, open: true, warning: "no witness answers any more"},
		"no commit is shown":                {quiet: time.Second, ahead: 2, blind: quarantineBlind - 1},
		"and never will be":                 {quiet: time.Second, ahead: 2, blind: quarantineBlind, open: true, warning: "the witnesses answer, and show no commit"},
		"the first new block is not final":  {quiet: time.Second, ahead: 1, blind: time.Hour},
		"a chain that stands, and hides it": {quiet: quarantineSilence, ahead: 9, blind: time.Hour, open: true, passed: true},
	} {
		passed := false
		w, err := New(Config{
			ChainID: chainID, Addrs: []string{"http://127.0.0.1:1"}, Verify: ourVerify, Quarantine: true,
			Passed: func() error { passed = true; return nil }, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		w.phase, w.quietFrom, w.answered = quarantined, now.Add(-c.quiet), now.Add(-c.silent)
		w.judged, w.judgedAt, w.tip = 100, now.Add(-c.blind), 100+c.ahead
		held := w.Bounds()
		w.step(now)
		heard := false
		select {
		case <-held.Changed:
			heard = true
		default:
		}
		if heard != c.open { // who waits hears of it at once
			t.Errorf("%s: what is held back heard: %v", name, heard)
		}
		if (w.phase == open) != c.open || passed != c.passed {
			t.Errorf("%s: %v, passed %v", name, w.phase, passed)
		}
		if s := w.Snapshot(); !strings.HasPrefix(w.warning, c.warning) || (c.warning == "") != (w.warning == "") || !strings.Contains(s.Detail, c.warning) {
			t.Errorf("%s: %q, status %+v", name, w.warning, s)
		}
	}
}

// A witness that keeps no block but its last one lets a quarantine neither pass nor go on
// without a word.
func TestQuarantineOfAPrunedChain(t *testing.T) {
	t.Parallel()
	n := newNode(t, 100)
	n.handle = func(w http.ResponseWriter, r *http.Request) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		if height := r.URL.Query().Get("height"); height == "" || height == fmt.Sprint(n.tip) {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":-1,"error":{"code":-32603,"message":"Internal error","data":"height 1 is not available, lowest height is 9"}}`)
		return true
	}
	w := watch(t, watermark.Floor(100), quarantine, n.URL)
	w.quarantined()
	n.grow(1, nil, 0, time.Time{})
	w.tip(101)
	if hold := w.Bounds().Hold; strings.Contains(hold, "prune") {
		t.Errorf("a commit that is not final is missed: %s", hold)
	}
	n.grow(QuarantineBlocks+3, nil, 0, time.Time{})
	b := w.tip(104 + QuarantineBlocks)
	if !strings.Contains(b.Hold, "0 of 3 new blocks") || !strings.Contains(b.Hold, "no witness shows the commits after 100, and the chain is at 107") {
		t.Errorf("%+v", b)
	}
	w.mu.Lock()
	w.judgedAt = w.judgedAt.Add(-quarantineBlind)
	w.mu.Unlock()
	w.until("open", isOpen)
	if s := w.Snapshot(); !strings.Contains(s.Detail, "will be repeated at the next start") || !strings.Contains(w.log.String(), "show no commit of a new block") {
		t.Errorf("%+v\n%s", s, w.log)
	}
	select {
	case <-w.passed:
		t.Error("it was passed")
	default:
	}
}

// One that lies downwards, with blocks as fresh as can be, lowers no ceiling and no floor
// beside one that says the truth; and time comes from the clock that nobody sets back.
func TestLyingDownwards(t *testing.T) {
	t.Parallel()
	liar, honest := newNode(t, 50), newNode(t, 100)
	w := watch(t, precommit(100, 2, time.Now()), nil, liar.URL, honest.URL)
	before := w.until("open", isOpen)
	if before.Tip != 100 || before.Floor != 100 {
		t.Errorf("%+v", before)
	}
	liar.grow(10, nil, 0, time.Time{})
	w.until("at the tip of both", func(watermark.Bounds) bool { return w.Snapshot().Sources[0].Tip == 60 })
	if b := w.Bounds(); b.Tip != 100 || b.TipAt != before.TipAt {
		t.Errorf("%+v, before %+v", b, before)
	}
	if before.TipAt == before.TipAt.Round(0) { // == sees the reading that Round strips
		t.Error("the time of the tip has no monotonic clock")
	}
}

// When a start goes on: once a witness at the tip has answered, and the others have too
// or had their time; else at the end of the wait.
func TestTimeAtAStart(t *testing.T) {
	none, current, syncing := source{}, source{looked: true}, source{looked: true, catchingUp: true}
	broken, foreign := source{failed: true}, source{failed: true, wrong: true}
	const catchesUp, noAnswer = "every witness is still catching up", "no witness answers"
	for name, c := range map[string]struct {
		waited, since time.Duration // since the start, since the first answer
		a, b          source
		open          bool
		warning       string
	}{
		"nobody has answered":                 {waited: DefaultWait - 1, a: none, b: none},
		"nobody has answered, and it is late": {waited: DefaultWait, a: none, b: none, open: true, warning: noAnswer},
		"both fail":                           {waited: DefaultWait - 1, a: broken, b: broken},
		"both fail, and it is late":           {waited: DefaultWait, a: broken, b: foreign, open: true, warning: noAnswer},
		"both are of another chain":           {a: foreign, b: foreign, open: true, warning: noAnswer},
		"both catch up":                       {waited: DefaultWait - 1, since: DefaultWait, a: syncing, b: syncing},
		"both catch up, and it is late":       {waited: DefaultWait, since: DefaultWait, a: syncing, b: syncing, open: true, warning: catchesUp},
		"one catches up, one fails":           {waited: DefaultWait - 1, since: DefaultWait, a: syncing, b: broken},
		"one catches up, one is at the tip":   {a: syncing, b: current, open: true},
		"one fails, one is at the tip":        {a: broken, b: current, open: true},
		"both are at the tip":                 {a: current, b: current, open: true},
		"the other one has a little time":     {since: settleTime - 1, a: current, b: none},
		"and no more":                         {since: settleTime, a: current, b: none, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, quarantine := range []bool{false, true} {
				w, err := New(Config{
					ChainID: chainID, Addrs: []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, Verify: ourVerify,
					Quarantine: quarantine, Log: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				now := time.Now()
				w.begun, w.firstAnswer, w.sources = now.Add(-c.waited), now.Add(-c.since), []*source{&c.a, &c.b}
				w.step(now)
				want := waiting
				switch {
				case c.open && c.warning == "" && quarantine:
					want = quarantined
				case c.open:
					want = open
				}
				if w.phase != want || !strings.HasPrefix(w.warning, c.warning) || (w.warning == "") != (c.warning == "") {
					t.Errorf("quarantine %v: %v, warning %q; want %v, %q", quarantine, w.phase, w.warning, want, c.warning)
				}
			}
		})
	}
}

// What a witness says acts on no terminal.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"chain-1": "chain-1", " a\n": "a", "a\x1b[2Jb": "a?[2Jb", "a\u202eb": "a?b", "a\x7fb\x00": "a?b?", strings.Repeat("x", maxText+1): strings.Repeat("x", maxText) + "\u2026",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// What a node answers counts only as what was asked for, in its size, and from itself.
func TestClientTakesNothingElse(t *testing.T) {
	good := newNode(t, 100)
	pad := strings.Repeat(" ", maxStatus)
	for name, handle := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"as it is": nil,
		"the commit of another height": func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/commit" {
				r.URL.RawQuery = "height=8"
			}
			return false
		},
		"a status that is too long": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/status" {
				fmt.Fprintf(w, `{"node_info":{"network":%q},"sync_info":{"latest_block_height":"100"}}%s`, chainID, pad)
				return true
			}
			return false
		},
		"another place": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, good.URL+r.URL.RequestURI(), http.StatusFound)
			return true
		},
		"a commit without signatures": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/commit" {
				fmt.Fprintf(w, `{"signed_header":{"header":{"chain_id":%q,"height":"7","time":"2026-01-01T00:00:00Z"},"commit":{"height":"7","round":0,"block_id":{"hash":"%064X","parts":{"total":1,"hash":"%064X"}},"signatures":[]}}}`, chainID, 7, 7)
				return true
			}
			return false
		},
	} {
		n := newNode(t, 100)
		n.handle = handle
		c, err := NewClient(n.URL, ourAddress)
		if err != nil {
			t.Fatal(err)
		}
		_, statusErr := c.Status(t.Context(), chainID)
		_, commitErr := c.Commit(t.Context(), chainID, 7)
		if err := errors.Join(statusErr, commitErr); (err == nil) != (handle == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The listener of a node is dialled by nobody but its signer, whatever its host is
// called; and what is printed of an address holds no password.
func TestAddresses(t *testing.T) {
	nodes := Nodes{}
	nodes.Add("tcp://127.0.0.1:26659")
	nodes.Add("noise://peer@10.0.0.1:26660")
	nodes.Add("tcp://[2001:db8::1]:26661")
	nodes.Add("tcp://validator.example.:26662")
	for addr, ok := range map[string]bool{
		"http://127.0.0.1:26657": true, "https://rpc.example": true, "http://10.0.0.1:26657/proxy": true,
		"http://127.0.0.1:26659": false, "http://localhost:26659": false, "http://LOCALHOST:26659": false, "http://[::1]:26659": false,
		"http://127.0.0.2:26659": false, "http://localhost.:26659": false, "http://127.0.0.1:026659": false, "http://[::ffff:127.0.0.1]:26659": false,
		"http://[2001:DB8:0::1]:26661": false, "http://Validator.Example:26662": false, "http://127.0.0.1:0": false, "http://127.0.0.1:99999": false, "http://127.0.0.1:": false,
		"http://0.0.0.0:26659": false, "http://10.0.0.1:26660": false, "http://user:secret@10.0.0.2:26657": false,
		"tcp://10.0.0.2:26657": false, "10.0.0.2:26657": false, "http://": false, "http://h:1?a=b": false, "http://h:1#a": false, "ftp://h:1": false,
	} {
		err := CheckAddr(addr, nodes)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
