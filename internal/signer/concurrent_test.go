package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/filestore"
	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// TestConcurrent: a million requests of several nodes at once, for all steps,
// blocks and timestamps, with a store in memory and a key that costs nothing.
func TestConcurrent(t *testing.T) {
	requests := 1_000_000
	if testing.Short() {
		requests = 50_000
	}
	fake := storetest.NewFake(watermark.Mark{})
	c := cheapConfig(&cheapKey{})
	c.Store = &risingStore{Store: fake}
	w := &crowd{open: openCheap, pace: 20}
	w.run(t, requests, c)
	if last := w.signers[0].Last().Mark; !fake.Saved().Mark.Equal(last) {
		t.Errorf("the store is at %v, the signer at %v", fake.Saved().Mark, last)
	}
	w.check(t, fake.Saved().Mark)
}

// TestConcurrentForReal: ten thousand of them with the real store on a real
// disk, and a real key.
func TestConcurrentForReal(t *testing.T) {
	key := newTestKey()
	c := config(key)
	file := filestore.Config{ID: watermark.ID{ChainID: chain, Key: [32]byte(key.pub())}}
	store := newFileStore(t, &file)
	c.Store = &risingStore{Store: store}
	w := &crowd{pace: 5, open: func(sig []byte, m watermark.Mark) []byte {
		if key.verify(m.SignBytes, sig) {
			return m.SignBytes
		}
		return nil
	}}
	w.run(t, 10_000, c)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// What the next process finds is no older than any signature that left.
	store, err := filestore.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	saved, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := w.signers[0].Last().Mark; !saved.Mark.Equal(last) {
		t.Errorf("the file is at %v, the signer was at %v", saved.Mark, last)
	}
	w.check(t, saved.Mark)
}

// newFileStore makes a state at file.Path, which it sets: on the disk of the
// temporary directory, or of the cache where that is not one.
func newFileStore(t *testing.T, file *filestore.Config) *filestore.Store {
	t.Helper()
	cache, _ := os.UserCacheDir()
	for _, base := range []string{os.TempDir(), cache} {
		dir, err := os.MkdirTemp(base, "signer")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		file.Path = filepath.Join(dir, "state")
		if err := filestore.Create(*file, watermark.Saved{}); errors.Is(err, filestore.ErrUnsafe) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		store, err := filestore.Open(t.Context(), *file)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	const missing = "neither the temporary nor the cache directory is on a local disk (ext4, xfs, …): set TMPDIR to one that is; `make test` cannot make one"
	if os.Getenv("PRIVYSEAL_REQUIRE_NODES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return nil
}

// crowd is some nodes that ask at once, and what they got.
type crowd struct {
	// open returns what a signature is over, nil if it is over nothing known. It
	// may use the mark that the signer claims to have signed.
	open func(sig []byte, claimed watermark.Mark) []byte
	// pace is how many requests there are for each height, about.
	pace int

	signers  []*signer.Signer
	ledger   hashLedger
	tip      atomic.Int64 // the height that nodes are at
	mu       sync.Mutex
	outcomes map[string]int
}

// crowdNodes is how many ask each signer.
const crowdNodes = 8

func (w *crowd) run(t *testing.T, requests int, configs ...signer.Config) {
	t.Helper()
	w.outcomes = map[string]int{}
	w.tip.Store(1)
	ctx, cancel := context.WithCancel(t.Context())
	var watched, nodes sync.WaitGroup
	for _, c := range configs {
		c.Nodes = crowdNodes
		s, err := signer.New(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		w.signers = append(w.signers, s)
		watched.Go(func() { watchMark(ctx, t, s) })
	}
	for i := range len(w.signers) * crowdNodes {
		nodes.Go(func() { w.node(t, i, requests/crowdNodes/len(w.signers)) })
	}
	nodes.Wait()
	cancel()
	watched.Wait()
}

// watchMark sees to it that the mark in memory only rises.
func watchMark(ctx context.Context, t *testing.T, s *signer.Signer) {
	last := s.Last().Mark
	for ctx.Err() == nil {
		now := s.Last().Mark
		if now.Less(last) {
			t.Errorf("the mark fell from %v to %v", last, now)
			return
		}
		last = now
		time.Sleep(100 * time.Microsecond)
	}
}

// node asks for something near the tip of the chain, again and again.
func (w *crowd) node(t *testing.T, i, requests int) {
	rng := rand.New(rand.NewPCG(uint64(i), 7))
	name := fmt.Sprint("n", i)
	outcomes := map[string]int{}
	for range requests {
		req := w.request(rng)
		outcomes[w.ask(t, w.signers[i/crowdNodes], name, &req)]++
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for outcome, n := range outcomes {
		w.outcomes[outcome] += n
	}
}

func (w *crowd) request(rng *rand.Rand) privval.Request {
	height := w.tip.Load()
	switch rng.IntN(w.pace) {
	case 0:
		w.tip.CompareAndSwap(height, height+1)
	case 1, 2:
		height = max(1, height-1)
	}
	kinds := []privval.Kind{privval.KindProposal, privval.KindPrevote, privval.KindPrecommit}
	r := privval.Request{
		Kind: kinds[rng.IntN(3)], ChainID: chain, Height: height, Round: int32(rng.IntN(6)) / 2,
		BlockID:   crowdBlocks[rng.IntN(len(crowdBlocks))],
		Timestamp: privval.Timestamp{Seconds: int64(rng.IntN(3))},
	}
	if r.Kind == privval.KindProposal && r.BlockID.IsNil() {
		r.BlockID = crowdBlocks[1]
	}
	return r
}

var crowdBlocks = []privval.BlockID{{}, block("A"), block("B"), block("A")}

// ask asks once and enters in the ledger what left the signer.
func (w *crowd) ask(t *testing.T, s *signer.Signer, node string, req *privval.Request) string {
	resp, err := s.Handle(t.Context(), node, req)
	switch {
	case err != nil:
		t.Errorf("%s asked for %v: %v", node, markOf(*req), err)
		return "error"
	case resp.Refused != "":
		return "refused"
	}
	// What can have been signed is the request, with the timestamp of the reply.
	claimed := *req
	if req.Kind != privval.KindProposal {
		claimed.Timestamp = decodeTimestamp(resp.Timestamp)
	}
	m := markOf(claimed)
	if msg := w.open(resp.Signature, m); !bytes.Equal(msg, m.SignBytes) {
		t.Errorf("%s asked for %v and got a signature over %x", node, m, msg)
	}
	w.ledger.add(t, m)
	if claimed.Timestamp != req.Timestamp {
		return "again"
	}
	return "signed"
}

// decodeTimestamp reads the timestamps of the crowd: seconds below 128.
func decodeTimestamp(b []byte) privval.Timestamp {
	if len(b) == 2 {
		return privval.Timestamp{Seconds: int64(b[1])}
	}
	return privval.Timestamp{}
}

// check compares the ledger with the mark that the store ended at.
func (w *crowd) check(t *testing.T, stored watermark.Mark) {
	t.Helper()
	if stored.Less(w.ledger.top) {
		t.Errorf("the store is at %v, a signature left for %v", stored, w.ledger.top)
	}
	for _, outcome := range []string{"signed", "again", "refused"} {
		if w.outcomes[outcome] < 10 {
			t.Errorf("only %d requests were %s: %v", w.outcomes[outcome], outcome, w.outcomes)
		}
	}
	t.Logf("%v, %d messages, %d heights", w.outcomes, len(w.ledger.signed), w.tip.Load())
}

// hashLedger is a ledger of hashes, for many entries.
type hashLedger struct {
	mu     sync.Mutex
	signed map[position][8]byte
	top    watermark.Mark
}

func (l *hashLedger) add(t *testing.T, m watermark.Mark) {
	hash := sha256.Sum256(m.SignBytes)
	at := position{m.Height, m.Round, m.Step}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.signed == nil {
		l.signed = map[position][8]byte{}
	}
	if before, ok := l.signed[at]; ok && before != [8]byte(hash[:]) {
		t.Errorf("DOUBLE SIGN: two messages at %v", m)
	}
	l.signed[at] = [8]byte(hash[:])
	if l.top.Less(m) {
		l.top = m
	}
}

// cheapKey signs by handing back the message after a tag. It is used by one
// goroutine at a time, or the race detector says so.
type cheapKey struct{ signed int }

const cheapTag = "signed:"

func (k *cheapKey) Public() crypto.PublicKey { return nil }

func (k *cheapKey) Sign(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	k.signed++
	return append([]byte(cheapTag), msg...), nil
}

// cheapConfig returns a configuration for a cheapKey, or what has one.
func cheapConfig(key crypto.Signer) signer.Config {
	return signer.Config{ChainID: chain, Key: key, Verify: verifyCheap}
}

func verifyCheap(msg, sig []byte) bool { return bytes.Equal(openCheap(sig, watermark.Mark{}), msg) }

func openCheap(sig []byte, _ watermark.Mark) []byte {
	msg, ok := bytes.CutPrefix(sig, []byte(cheapTag))
	if !ok {
		return nil
	}
	return msg
}

// risingStore fails loudly if it is asked to let the mark fall.
type risingStore struct {
	watermark.Store
	last watermark.Mark
}

func (s *risingStore) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if !old.Mark.Less(m) || m.Less(s.last) {
		panic(fmt.Sprintf("the mark falls from %v to %v", old.Mark, m))
	}
	s.last = m
	return s.Store.Replace(ctx, old, m)
}

// TestChaos: two hosts with the same key share a state that fails in every way,
// with keys that fail, lie and hang. Each host is killed and started again while
// the old process may still be alive. However it ends, there is one message for
// each height, round and step.
func TestChaos(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 5
	}
	total := map[string]int{}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			c := newChaos(t, uint64(seed))
			c.shared = seed%2 == 0
			c.run()
			for outcome, n := range c.outcomes {
				total[outcome] += n
			}
		})
	}
	for _, outcome := range []string{"signed", "refused", "closed"} {
		if total[outcome] < 100 {
			t.Errorf("only %d requests were %s: %v", total[outcome], outcome, total)
		}
	}
	t.Log(total)
}

type chaos struct {
	t        *testing.T
	shared   bool // and the signers know that they are two
	seed     uint64
	root     *storetest.Fake
	ledger   hashLedger
	released chan struct{}

	mu       sync.Mutex
	outcomes map[string]int
	height   int64
}

func newChaos(t *testing.T, seed uint64) *chaos {
	return &chaos{
		t: t, seed: seed, root: storetest.NewFake(watermark.Mark{}), released: make(chan struct{}),
		outcomes: map[string]int{}, height: 1,
	}
}

func (c *chaos) run() {
	var hosts sync.WaitGroup
	for host := range uint64(2) {
		hosts.Go(func() { c.host(rand.New(rand.NewPCG(c.seed, host))) })
	}
	hosts.Wait()
	close(c.released)
	synctest.Wait()
	if top := c.ledger.top; c.root.Saved().Mark.Less(top) {
		c.t.Errorf("the store is at %v, a signature left for %v", c.root.Saved().Mark, top)
	}
}

// host runs one process after the other.
func (c *chaos) host(rng *rand.Rand) {
	for life := range 5 {
		seed := rng.Uint64()
		conf := cheapConfig(&chaoticKey{rng: rand.New(rand.NewPCG(seed, 1)), released: c.released})
		conf.Store = &fatedStore{c.root.Another(), chaotic(rand.New(rand.NewPCG(seed, 2)))}
		conf.Nodes, conf.Shared = 3, c.shared
		ctx, cancel := context.WithTimeout(c.t.Context(), answerTime)
		s, err := signer.New(ctx, conf)
		cancel()
		if err != nil {
			continue
		}
		var nodes sync.WaitGroup
		for n := range uint64(3) {
			nodes.Go(func() { c.node(s, fmt.Sprint("n", n), rand.New(rand.NewPCG(seed, 10+n)), 30+10*life) })
		}
		nodes.Wait()
	}
}

func (c *chaos) node(s *signer.Signer, name string, rng *rand.Rand, requests int) {
	for range requests {
		req := c.request(rng)
		outcome := c.ask(s, name, req)
		c.mu.Lock()
		c.outcomes[outcome]++
		c.mu.Unlock()
		// A node does not ask in one instant, so that the hosts take turns.
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

func (c *chaos) request(rng *rand.Rand) privval.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rng.IntN(15) == 0 {
		c.height++
	}
	w := crowd{pace: 20}
	w.tip.Store(c.height)
	return w.request(rng)
}

// ask asks like a session: it does not wait for what hangs. The signature may
// leave later all the same.
func (c *chaos) ask(s *signer.Signer, node string, req privval.Request) string {
	done := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(c.t.Context(), answerTime)
		defer cancel()
		resp, err := s.Handle(ctx, node, &req)
		switch {
		case err != nil && resp.Signature == nil:
			done <- "closed"
			return
		case resp.Refused != "" && resp.Signature == nil:
			done <- "refused"
			return
		}
		msg := openCheap(resp.Signature, watermark.Mark{})
		got, err := privval.ParseSignBytes(msg)
		if err != nil || got.Height != req.Height || got.Round != req.Round || got.Kind != req.Kind ||
			nameOf(got.BlockID) != nameOf(req.BlockID) {
			c.t.Errorf("asked for %+v, got %+v, %v", req, got, err)
		}
		c.ledger.add(c.t, markOf(got))
		done <- "signed"
	}()
	select {
	case outcome := <-done:
		return outcome
	case <-time.After(answerTime + time.Second):
		return "silence"
	}
}

// chaoticKey fails, lies or hangs once in a while.
type chaoticKey struct {
	cheapKey
	rng      *rand.Rand
	released chan struct{}
}

func (k *chaoticKey) Sign(r io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	switch k.rng.IntN(200) {
	case 0, 1, 2:
		return nil, errors.New("the key failed on purpose")
	case 3, 4, 5:
		return k.cheapKey.Sign(r, append(bytes.Clone(msg), 'x'), opts)
	case 6:
		<-k.released
	}
	return k.cheapKey.Sign(r, msg, opts)
}

// fatedStore is a Fake that has something else in store before each call.
type fatedStore struct {
	*storetest.Fake
	fate func(*storetest.Fake)
}

func (s *fatedStore) Load(ctx context.Context) (watermark.Saved, error) {
	s.fate(s.Fake)
	return s.Fake.Load(ctx)
}

func (s *fatedStore) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	s.fate(s.Fake)
	return s.Fake.Replace(ctx, old, m)
}

// chaotic fails in all ways that a Fake knows.
func chaotic(rng *rand.Rand) func(*storetest.Fake) {
	return func(f *storetest.Fake) {
		if n := rng.IntN(40); n <= int(storetest.SilentAfter) {
			f.Script(storetest.Outcome(n))
		}
	}
}
