package signer_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/privval"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// answerTime is how long a session gives a request.
const answerTime = 4 * time.Second

// TestStories plays testdata/stories.txt, which explains itself.
func TestStories(t *testing.T) { playFile(t, "testdata/stories.txt", 30) }

// TestIncidents plays what cost others their stake.
func TestIncidents(t *testing.T) { playFile(t, "testdata/incidents.txt", 12) }

// TestShared plays testdata/shared.txt, what several signers of one key do.
func TestShared(t *testing.T) {
	playEach(t, "testdata/shared.txt", 25, func(t *testing.T, lines string) { (&hosts{t: t}).playAll(lines) })
}

func playFile(t *testing.T, file string, atLeast int) {
	playEach(t, file, atLeast, func(t *testing.T, lines string) { newPlayer(t).playAll(lines) })
}

func playEach(t *testing.T, file string, atLeast int, play func(t *testing.T, lines string)) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stories := strings.Split(string(raw), "\nstory ")[1:]
	for _, story := range stories {
		title, lines, _ := strings.Cut(story, "\n")
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, lines) })
		})
	}
	if len(stories) < atLeast {
		t.Errorf("only %d stories", len(stories))
	}
}

// player holds the world of one story.
type player struct {
	t      *testing.T
	line   string
	store  *storetest.Fake
	c      signer.Config
	signer *signer.Signer
	key    *testKey
	ledger *ledger
	calls  int // of the store, as far as they were counted
	bounds atomic.Pointer[watermark.Bounds]

	mu     sync.Mutex
	events map[string]signer.Event // the last one of each node
}

func newPlayer(t *testing.T) *player {
	p := &player{t: t, key: newTestKey(), ledger: &ledger{}, events: map[string]signer.Event{}}
	p.key.durable = func() watermark.Mark { return p.store.Saved().Mark }
	p.c = config(p.key)
	p.bounds.Store(&watermark.Bounds{})
	p.c.Bounds = func() watermark.Bounds { return *p.bounds.Load() }
	p.c.Observe = func(e signer.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.events[e.Node] = e
	}
	return p
}

func (p *player) playAll(lines string) {
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			p.line = line
			p.play(strings.Fields(line))
		}
	}
	p.end()
}

// end lets go of what hangs, and looks at all that was signed.
func (p *player) end() {
	// What still hangs may end now, and its signature may leave.
	p.key.letGo()
	synctest.Wait()
	p.ledger.check(p.t)
	p.key.check(p.t)
}

func (p *player) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *player) play(words []string) {
	p.t.Helper()
	switch words[0] {
	case "nodes":
		p.c.Nodes = int(number(p.t, words[1]))
	case "max":
		p.c.Heights.Max = number(p.t, words[1])
	case "bucket":
		p.c.Heights.Burst = number(p.t, words[1])
	case "calls":
		if got := p.store.Calls() - p.calls; got != int(number(p.t, words[1])) {
			p.fatalf("%d calls", got)
		}
		p.calls = p.store.Calls()
	case "witness":
		p.setWitness(words[1:])
	case "state":
		p.setState(words[1:])
	case "start":
		p.start(words[1:])
	case "store":
		p.store.Script(outcomesOf(p.t, words[1:])...)
	case "key":
		p.key.setScript(words[1:])
	case "put":
		p.store.Put(readMark(p.t, words[1:]))
	case "wait":
		time.Sleep(duration(p.t, words[1]))
	case "together":
		p.together(words[1:])
	default:
		p.ask(words)
	}
}

// setWitness plays what a witness says from now on: hold, stop, or tip HEIGHT
// floor HEIGHT.
func (p *player) setWitness(words []string) {
	var b watermark.Bounds
	switch words[0] {
	case "hold":
		b.Hold = "on purpose"
	case "stop":
		b.Stop = "on purpose"
	case "tip":
		b = watermark.Bounds{Tip: number(p.t, words[1]), TipAt: time.Now(), Floor: number(p.t, words[3])}
	}
	p.bounds.Store(&b)
}

func (p *player) setState(words []string) {
	switch words[0] {
	case "fresh":
		p.store = storetest.NewFake(watermark.Mark{})
	case "missing":
		p.store = storetest.NewFake(watermark.Mark{})
		p.store.Script(slices.Repeat([]storetest.Outcome{storetest.Before}, 100)...)
	default:
		p.store = storetest.NewFake(readMark(p.t, words))
	}
}

// start starts the process. A second start is one after a crash: the state is
// the same, what was in memory is gone.
func (p *player) start(want []string) {
	p.t.Helper()
	if p.signer != nil {
		p.store, p.calls = p.store.Another(), 0
	}
	p.c.Store = p.store
	s, err := signer.New(p.t.Context(), p.c)
	if refused := len(want) > 0; refused != (err != nil) {
		p.fatalf("got %v", err)
	}
	p.signer = s
}

// ask plays a line NODE MESSAGE -> OUTCOME.
func (p *player) ask(words []string) {
	p.t.Helper()
	arrow := slices.Index(words, "->")
	want, after, timed := strings.Cut(strings.Join(words[arrow+1:], " "), " after ")
	begin, before := time.Now(), p.store.Saved().Mark
	if got := p.handle(words[0], request(p.t, words[1:arrow])); got != want {
		p.fatalf("got %q (%v)", got, p.events[words[0]].Err)
	}
	took := time.Since(begin)
	if want != "silence" && (timed && took != duration(p.t, after) || !timed && took != 0) {
		p.fatalf("it took %v", took)
	}
	if now := p.store.Saved().Mark; now.Less(before) {
		p.fatalf("the mark fell from %v to %v", before, now)
	}
}

// together plays NODE MESSAGE and NODE MESSAGE -> OUTCOME and OUTCOME, where it
// is open who is first.
func (p *player) together(words []string) {
	p.t.Helper()
	arrow := slices.Index(words, "->")
	var asks [][]string
	for _, s := range strings.Split(strings.Join(words[:arrow], " "), " and ") {
		asks = append(asks, strings.Fields(s))
	}
	got := make([]string, len(asks))
	var wg sync.WaitGroup
	for i, ask := range asks {
		wg.Go(func() { got[i] = p.handle(ask[0], request(p.t, ask[1:])) })
	}
	wg.Wait()
	want := strings.Split(strings.Join(words[arrow+1:], " "), " and ")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.fatalf("got %q", got)
	}
}

// handle is the session: it closes the connection when the time is up, even
// where the handler hangs.
func (p *player) handle(node string, req privval.Request) string {
	done := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(p.t.Context(), answerTime)
		defer cancel()
		resp, err := p.signer.Handle(ctx, node, &req)
		done <- p.outcome(node, &req, resp, err)
	}()
	select {
	case outcome := <-done:
		return outcome
	case <-time.After(answerTime + time.Second):
		return "silence"
	}
}

// outcome puts an answer into the words of the stories, and checks it against
// what it claims to be.
func (p *player) outcome(node string, req *privval.Request, resp privval.Response, err error) string {
	p.mu.Lock()
	e := p.events[node]
	p.mu.Unlock()
	unsigned := resp.Signature == nil && resp.Timestamp == nil && resp.ExtensionSignature == nil
	switch {
	case resp.Kind != req.Kind:
		return fmt.Sprintf("an answer of kind %v", resp.Kind)
	case err != nil && unsigned && resp.Refused == "" && e.Reason == "" && e.Err != nil:
		return "closed"
	case err == nil && unsigned && resp.Refused != "" && e.Reason != "":
		return "refused " + e.Reason
	case err != nil || resp.Refused != "" || e.Reason != "" || e.Err != nil:
		return fmt.Sprintf("a mixture: %+v, %+v, %v", resp, e, err)
	}
	return p.signed(req, resp, e)
}

func (p *player) signed(req *privval.Request, resp privval.Response, e signer.Event) string {
	if !p.key.verify(e.Mark.SignBytes, resp.Signature) {
		return "a signature over other bytes than the mark's"
	}
	p.ledger.add(e.Mark)
	got, err := privval.ParseSignBytes(e.Mark.SignBytes)
	switch {
	case err != nil:
		return err.Error()
	case got.Kind != req.Kind || got.Height != req.Height || got.Round != req.Round || got.ChainID != req.ChainID:
		return fmt.Sprintf("signed %+v", got)
	case req.Kind == privval.KindProposal && resp.Timestamp != nil:
		return "a proposal with a timestamp"
	case req.Kind != privval.KindProposal && string(resp.Timestamp) != string(got.Timestamp.Append(nil)):
		return "another timestamp than the one that was signed"
	case !e.Repeated && string(e.Mark.SignBytes) != string(req.SignBytes()):
		return "signed, but not what was asked for"
	case e.Repeated:
		return fmt.Sprintf("again %s t%d", nameOf(got.BlockID), got.Timestamp.Seconds)
	}
	return "signed"
}
