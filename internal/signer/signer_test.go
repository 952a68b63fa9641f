package signer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// newSigner returns a signer on a state at 10/0/precommit.
func newSigner(t *testing.T, c signer.Config) *signer.Signer {
	t.Helper()
	if c.Store == nil {
		c.Store = storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
	}
	s, err := signer.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask has n1 ask, and returns the answer; an error fails the test.
func ask(t *testing.T, s *signer.Signer, req privval.Request) privval.Response {
	t.Helper()
	resp, err := s.Handle(t.Context(), "n1", &req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func say(t *testing.T, s string) privval.Request { return request(t, strings.Fields(s)) }

// diary writes down what a store and a key do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// writeTime is what a slowStore takes to write.
const writeTime = 1100 * time.Millisecond

// slowStore takes its time, and writes down when it answers.
type slowStore struct {
	watermark.Store
	*diary
	hold chan struct{} // not nil: Replace ignores its context and waits for this
}

func (s *slowStore) Load(ctx context.Context) (watermark.Saved, error) {
	saved, err := s.Store.Load(ctx)
	s.note("loaded %v", saved.Mark)
	return saved, err
}

func (s *slowStore) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	s.note("write %v", m)
	if s.hold != nil {
		<-s.hold
		ctx = context.WithoutCancel(ctx)
	}
	time.Sleep(writeTime)
	saved, err := s.Store.Replace(ctx, old, m)
	s.note("durable %v", saved.Mark)
	return saved, err
}

// The key is asked after the store has answered, for nothing else, and once.
func TestStoreBeforeKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		key := newTestKey()
		c := config(key)
		fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		c.Store = &slowStore{Store: fake, diary: &d}
		c.Verify = func(msg, sig []byte) bool {
			r, err := privval.ParseSignBytes(msg)
			d.note("verified %v of height %d, %v", r.Kind, r.Height, err)
			return key.verify(msg, sig)
		}
		key.durable = func() watermark.Mark {
			d.note("signed")
			return fake.Saved().Mark
		}
		s := newSigner(t, c)
		ask(t, s, say(t, "11/0/prevote A t2"))
		ask(t, s, say(t, "11/0/prevote A t3"))
		ask(t, s, say(t, "11/0/prevote B t3"))
		want := []string{
			"loaded 10/0/precommit",
			"write 11/0/prevote", "durable 11/0/prevote", "signed", "verified prevote of height 11, <nil>",
			"signed", "verified prevote of height 11, <nil>",
		}
		if diff := cmp.Diff(want, d.lines); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		key.check(t)
	})
}

// A store that hangs in a system call holds up its own chain and nothing else,
// answers in the end, and what it wrote then counts.
func TestStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newTestKey()
		c := config(key)
		store := &slowStore{
			Store: storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"})),
			diary: new(diary), hold: make(chan struct{}),
		}
		c.Store = store
		s := newSigner(t, c)
		begin := time.Now()
		var wg sync.WaitGroup
		hung := make([]error, 5)
		for i := range hung {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), answerTime)
				defer cancel()
				req := say(t, "11/0/prevote A t2")
				_, hung[i] = s.Handle(ctx, fmt.Sprint("n", i), &req)
				if took := time.Since(begin); i > 0 && took != answerTime && hung[i] != nil {
					t.Errorf("gave up after %v", took)
				}
			})
			synctest.Wait() // the first one is in the store before the others come
		}
		// What needs no turn is answered meanwhile.
		for _, req := range []privval.Request{
			{Kind: privval.KindPing}, {Kind: privval.KindPubKey, ChainID: chain}, say(t, "11/0/prevote A t2 chain=other"),
		} {
			ask(t, s, req)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("ping, public key and refusal took %v", took)
		}
		time.Sleep(time.Minute)
		close(store.hold)
		wg.Wait()
		for i, err := range hung {
			if i == 0 && err != nil || i > 0 && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("request %d: %v", i, err)
			}
		}
		if resp := ask(t, s, say(t, "11/0/prevote B t9")); resp.Refused == "" {
			t.Error("the vote for the other block was signed")
		}
		if got := s.Last().Mark.String(); got != "11/0/prevote" {
			t.Errorf("the mark is %s", got)
		}
	})
}

// Waiting for a turn is part of a request's time: the node of one that comes too
// late has gone.
func TestQueueing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newTestKey()
		c := config(key)
		c.Store = &slowStore{Store: storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"})), diary: new(diary)}
		var mu sync.Mutex
		var events []signer.Event
		c.Observe = func(e signer.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		}
		s := newSigner(t, c)
		var wg sync.WaitGroup
		for i := range int32(8) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), answerTime)
				defer cancel()
				req := say(t, "11/0/prevote A t2")
				req.Round = i
				s.Handle(ctx, "n", &req)
			})
			synctest.Wait()
		}
		wg.Wait()
		answered := 0
		for _, e := range events {
			if e.Err == nil {
				answered++
			}
			if e.All < e.Queue+e.Store+e.Sign || e.Queue > answerTime || e.All > answerTime+writeTime {
				t.Errorf("a request was in work for %v: %+v", e.All, e)
			}
		}
		if answered != 3 || len(events) != 8 {
			t.Errorf("%d requests of %d were answered in %v, with a store that takes %v", answered, len(events), answerTime, writeTime)
		}
	})
}

// A request whose time was up before it got its turn moves nothing, and does
// not make the store fail.
func TestTooLate(t *testing.T) {
	fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
	c := config(newTestKey())
	c.Store = fake
	s := newSigner(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := fake.Calls()
	for range 20 {
		req := say(t, "11/0/prevote A t2")
		if resp, err := s.Handle(ctx, "n1", &req); !errors.Is(err, context.Canceled) || resp.Signature != nil {
			t.Fatalf("got %v, %v", resp, err)
		}
	}
	if fake.Calls() != calls || fake.Saved().Mark.Height != 10 {
		t.Errorf("%d calls of the store, the mark is at %v", fake.Calls()-calls, fake.Saved().Mark)
	}
}

// Whatever fails, the error says what went wrong, and keeps the cause.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		key := newTestKey()
		c := config(key)
		c.Store = fake
		s := newSigner(t, c)
		fails := func(want string, is error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), answerTime+time.Millisecond)
			defer cancel()
			req := say(t, "11/0/prevote A t2")
			_, err := s.Handle(ctx, "n1", &req)
			if err == nil || !strings.Contains(err.Error(), want) || is != nil && !errors.Is(err, is) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		fake.Script(slices.Repeat([]storetest.Outcome{storetest.Before}, 50)...)
		fails("the fake store failed on purpose", storetest.ErrFake)
		fake.Script()
		fake.Put(watermark.Floor(9))
		fails("now at 9/all/all and before at 10/0/precommit: the state went back", nil)
		fake.Put(watermark.Floor(10))
		key.setScript([]string{"fails", "lies"})
		fails("cannot sign for chain chain-1: the key failed on purpose", nil)
		fails("cannot sign for chain chain-1: the key made a signature that does not verify", nil)
	})

	fake := storetest.NewFake(watermark.Mark{})
	fake.Script(storetest.Before)
	c := config(newTestKey())
	c.Store = fake
	if s, err := signer.New(t.Context(), c); !errors.Is(err, storetest.ErrFake) || s != nil {
		t.Errorf("without state: %v", err)
	}
}

// The public key is given as it was configured, to the right chain.
func TestPubKey(t *testing.T) {
	c := config(newTestKey())
	c.PubKey = privval.PubKey{Type: "secp256k1", Bytes: []byte{1, 2, 3}}
	s := newSigner(t, c)
	want := privval.Response{Kind: privval.KindPubKey, PubKey: c.PubKey}
	if diff := cmp.Diff(want, ask(t, s, privval.Request{Kind: privval.KindPubKey, ChainID: chain})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	resp := ask(t, s, privval.Request{Kind: privval.KindPubKey, ChainID: "chain-2"})
	if !strings.Contains(resp.Refused, `asked for chain "chain-2", this connection is for "chain-1"`) || resp.PubKey.Bytes != nil {
		t.Errorf("got %+v", resp)
	}
}

// What a node says is not said back at any length, nor logged.
func TestRefusalsAreShort(t *testing.T) {
	s := newSigner(t, config(newTestKey()))
	for _, kind := range []privval.Kind{privval.KindPubKey, privval.KindPrevote, privval.KindRawBytes} {
		req := say(t, "11/0/prevote A t2")
		req.Kind, req.ChainID = kind, strings.Repeat("\x00", 1<<20)
		resp := ask(t, s, req)
		if n := len(resp.Refused); n == 0 || n > 500 {
			t.Errorf("%v: a refusal of %d bytes", kind, n)
		}
	}
}

// A request that cannot be signed gets an answer of its own kind.
func TestInvalidRequests(t *testing.T) {
	var events []signer.Event
	c := config(newTestKey())
	c.AllowSignBytes, c.AllowRawBytes = true, true
	c.Observe = func(e signer.Event) { events = append(events, e) }
	s := newSigner(t, c)
	for kind := privval.KindPubKey; kind <= privval.KindRawBytes; kind++ {
		if kind == privval.KindPing {
			continue
		}
		req := say(t, "11/0/prevote A t2")
		req.Kind, req.Bytes, req.Invalid = kind, []byte("bytes"), errors.New("half a block id")
		resp := ask(t, s, req)
		want := privval.Response{Kind: kind, Refused: "refused: invalid_request: half a block id"}
		if diff := cmp.Diff(want, resp); diff != "" {
			t.Errorf("%v (-want +got):\n%s", kind, diff)
		}
		if e := events[len(events)-1]; e.Reason != "invalid_request" {
			t.Errorf("%v: reason %q", kind, e.Reason)
		}
	}
	for _, kind := range []privval.Kind{0, privval.KindVote, 77} {
		if resp := ask(t, s, privval.Request{Kind: kind, ChainID: chain, Height: 11}); resp.Refused == "" {
			t.Errorf("%v: %+v", kind, resp)
		}
	}
	if got := s.Last().Mark.String(); got != "10/0/precommit" {
		t.Errorf("the mark is at %s", got)
	}
}

// A ping is answered whatever it says, and is not an event.
func TestPing(t *testing.T) {
	c := config(newTestKey())
	c.Observe = func(e signer.Event) { t.Errorf("a ping was reported: %+v", e) }
	s := newSigner(t, c)
	for _, invalid := range []error{nil, errors.New("unknown field")} {
		if diff := cmp.Diff(privval.Response{Kind: privval.KindPing}, ask(t, s, privval.Request{Kind: privval.KindPing, Invalid: invalid})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestObserve: what metrics and logs get of each request.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e signer.Event
		key := newTestKey()
		c := config(key)
		c.Observe = func(event signer.Event) { e = event }
		c.Store = &slowStore{Store: storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"})), diary: new(diary)}
		s := newSigner(t, c)
		var req privval.Request
		for _, c := range []struct {
			name  string
			ask   string
			key   string
			want  signer.Event
			mark  string
			error string
		}{
			{"signed", "11/0/prevote A t2", "", signer.Event{Store: writeTime}, "11/0/prevote A t2", ""},
			{"again", "11/0/prevote A t3", "", signer.Event{Repeated: true}, "11/0/prevote A t2", ""},
			{"refused", "11/0/prevote B t3", "", signer.Event{Reason: "conflict_same_node"}, "11/0/prevote B t3", "refused: conflict: asked for 11/0/prevote, the mark is at 11/0/prevote"},
			{"went ahead", "14/0/prevote B t3", "", signer.Event{Store: writeTime}, "14/0/prevote B t3", ""},
			{"another chain", "15/0/prevote B t3 chain=x", "", signer.Event{Reason: "wrong_chain"}, "", `refused: wrong_chain: asked for chain "x", this connection is for "chain-1"`},
			{"a key that fails", "15/0/prevote B t3", "fails", signer.Event{Store: writeTime}, "15/0/prevote B t3", "the key failed on purpose"},
		} {
			key.setScript(strings.Fields(c.key))
			req = say(t, c.ask)
			s.Handle(t.Context(), "n7", &req)
			if c.mark != "" {
				c.want.Mark = markOf(say(t, c.mark))
			}
			if c.error == "" && e.Err != nil || c.error != "" && (e.Err == nil || !strings.Contains(e.Err.Error(), c.error)) {
				t.Errorf("%s: error %v", c.name, e.Err)
			}
			if e.Request != &req || e.Node != "n7" {
				t.Errorf("%s: got %v of %s", c.name, e.Request, e.Node)
			}
			if signed := c.error == ""; signed != (e.Signature != nil) || signed && !key.verify(e.Mark.SignBytes, e.Signature) {
				t.Errorf("%s: got the signature %x", c.name, e.Signature)
			}
			e.Request, e.Node, e.Err, e.Signature = nil, "", nil, nil
			c.want.All = c.want.Store
			if diff := cmp.Diff(c.want, e); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	})
}

// Last can be read at any time, and is never ahead of the store.
func TestLast(t *testing.T) {
	fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
	c := config(newTestKey())
	c.Store = fake
	s := newSigner(t, c)
	for height := int64(11); height < 20; height++ {
		req := say(t, "11/0/prevote A t2")
		req.Height = height
		ask(t, s, req)
		if diff := cmp.Diff(fake.Saved(), s.Last()); diff != "" {
			t.Errorf("(-store +signer):\n%s", diff)
		}
	}
}

// The bucket of heights is the signer's, not its configuration's.
func TestHeightsAreOwnToASigner(t *testing.T) {
	c := config(newTestKey())
	c.Heights = watermark.Heights{Burst: 10, PerSecond: 1, Max: math.MaxInt64}
	for range 2 {
		c.Store = storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		s := newSigner(t, c)
		if resp := ask(t, s, say(t, "11/0/prevote A t2")); resp.Refused != "" {
			t.Error(resp.Refused)
		}
		if resp := ask(t, s, say(t, "20/0/prevote A t2")); resp.Refused != "" {
			t.Error(resp.Refused)
		}
		if resp := ask(t, s, say(t, "29/0/prevote A t2")); !strings.Contains(resp.Refused, "height_leap") {
			t.Errorf("got %+v", resp)
		}
	}
}
