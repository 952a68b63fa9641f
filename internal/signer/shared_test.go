package signer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// hosts is several signers with one key, on one mark.
type hosts struct {
	t      *testing.T
	root   *storetest.Fake
	ledger ledger
	of     map[string]*player // by the name of the signer
}

func (h *hosts) playAll(lines string) {
	h.root, h.of = storetest.NewFake(watermark.Mark{}), map[string]*player{}
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "state" && words[1] != "fresh":
			h.root = storetest.NewFake(readMark(h.t, words[1:]))
		case words[0] == "state":
		case words[0] == "wait":
			time.Sleep(duration(h.t, words[1]))
		default:
			p := h.host(words[0])
			p.line = strings.TrimSpace(line)
			p.play(words[1:])
		}
	}
	for _, p := range h.of {
		p.end()
	}
}

func (h *hosts) host(name string) *player {
	if h.of[name] == nil {
		p := newPlayer(h.t)
		p.store, p.ledger, p.c.Shared = h.root.Another(), &h.ledger, true
		// A twin may be ahead of what is signed again here.
		p.key.durable = func() watermark.Mark { return p.signer.Last().Mark }
		h.of[name] = p
	}
	return h.of[name]
}

// owner notes what its signer has written: calls come one after the other in the tests
// that use it, so that what changes within one is this signer's.
type owner struct {
	*storetest.Fake
	raised int64
}

func (o *owner) Load(ctx context.Context) (watermark.Saved, error) {
	before := o.Saved().Mark.Height
	saved, err := o.Fake.Load(ctx)
	o.raised += o.Saved().Mark.Height - before // a write that came late
	return saved, err
}

func (o *owner) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	before := o.Saved().Mark.Height
	saved, err := o.Fake.Replace(ctx, old, m)
	o.raised += o.Saved().Mark.Height - before
	return saved, err
}

// TestSharedBucket: whatever becomes of the calls of the store, no signer raises the
// mark by more than its bucket; and where no outcome is unknown, each raises it by all
// of it, whatever the others have raised.
func TestSharedBucket(t *testing.T) {
	const burst, signers = 40, 3
	for _, faults := range []bool{false, true} {
		leaps, unspent := 0, 0
		for seed := range uint64(sharedWorlds) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 3))
				root := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
				var stores [signers]*owner
				var all [signers]*signer.Signer
				for i := range all {
					c := config(newTestKey())
					stores[i] = &owner{Fake: root.Another()}
					c.Store, c.Shared, c.Heights = stores[i], true, watermark.Heights{Burst: burst}
					all[i] = newSigner(t, c)
				}
				for range 200 {
					i := rng.IntN(signers)
					if faults && rng.IntN(3) == 0 {
						stores[i].Script(storetest.Outcome(rng.IntN(6)), storetest.Outcome(rng.IntN(6)))
					}
					mark := root.Saved().Mark
					req := say(t, "11/0/prevote A t2")
					req.Height, req.Round = mark.Height+max(0, rng.Int64N(12)-4), mark.Round+1
					before := stores[i].raised
					// No time passes but in a call that hangs, which refills the bucket.
					ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
					resp, err := all[i].Handle(ctx, "n", &req)
					cancel()
					if strings.Contains(resp.Refused, "height_leap") {
						leaps++
						spent := before + req.Height - mark.Height
						if !faults && spent <= burst {
							t.Errorf("seed %d: %d of %d heights would be spent: %s", seed, spent, burst, resp.Refused)
						}
					} else if err == nil && !faults && resp.Signature == nil && !strings.Contains(resp.Refused, "height_gap") {
						t.Errorf("seed %d: %+v", seed, resp)
					}
				}
				for i, s := range stores {
					if s.raised > burst {
						t.Errorf("seed %d: signer %d has raised the mark by %d heights, and its bucket holds %d", seed, i, s.raised, burst)
					}
					unspent += int(max(0, burst-s.raised))
				}
			})
		}
		if leaps == 0 {
			t.Error("nothing was refused: is there a bucket?")
		}
		t.Logf("faults %v: %d refusals, %d heights unspent", faults, leaps, unspent)
	}
}

// TestSharedGap: one height at most is skipped by each process, its first, whatever the
// others do and whatever becomes of the store's calls.
func TestSharedGap(t *testing.T) {
	for seed := range uint64(sharedWorlds) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			root := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
			var stores [2]*storetest.Fake
			var all [2]*signer.Signer
			skipped := [2][]int64{}
			for i := range all {
				c := config(newTestKey())
				stores[i] = root.Another()
				c.Store, c.Shared = stores[i], true
				all[i] = newSigner(t, c)
			}
			for range 200 {
				i := rng.IntN(2)
				if rng.IntN(4) == 0 {
					stores[i].Script(storetest.Outcome(rng.IntN(4)))
				}
				req := say(t, "11/0/prevote A t2")
				req.Height, req.Round = root.Saved().Mark.Height+rng.Int64N(5), int32(rng.IntN(3))
				resp, err := all[i].Handle(t.Context(), "n", &req)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(resp.Refused, "height_gap") && !slices.Contains(skipped[i], req.Height) {
					skipped[i] = append(skipped[i], req.Height)
				}
			}
			for i, heights := range skipped {
				if len(heights) > 0 && slices.Max(heights)-slices.Min(heights) > 4 {
					t.Errorf("seed %d: signer %d skipped the heights %v", seed, i, heights)
				}
			}
		})
	}
}

// TestExtensionsOfTwins: nodes of several signers come with the same precommit and an
// extension each. The vote is the one that is recorded, whoever asks; beside it each node
// gets its own extension signed, and one whose vote is refused gets neither. So there may
// be as many extensions as nodes beside one vote: none of them is a vote, and a commit has
// only one.
func TestExtensionsOfTwins(t *testing.T) {
	root := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
	key := newTestKey()
	var all [3]*signer.Signer
	for i := range all {
		c := config(key)
		c.Store, c.Shared = root.Another(), true
		all[i] = newSigner(t, c)
	}
	for _, round := range []string{"11/0", "11/1", "12/0"} {
		first := say(t, round+"/precommit A t2")
		for i, s := range all {
			// Nothing was loaded since the last round: but for the first, each loses the race.
			req := say(t, fmt.Sprintf("%s/precommit A t%d", round, 2+i))
			req.Extension = fmt.Appendf(nil, "price %d", i)
			resp := ask(t, s, req)
			if !key.verify(first.SignBytes(), resp.Signature) {
				t.Errorf("%s: signer %d has signed another vote", round, i)
			}
			checkSignature(t, "extension", key, req.ExtensionSignBytes(), resp.ExtensionSignature, true)
		}
	}
	// Here each that comes second loses the race for another block, after its key has signed
	// the extension.
	for i, text := range []string{"13/0/precommit A t2", "13/0/precommit B t2", "13/0/precommit nil t2"} {
		req := say(t, text)
		if !req.BlockID.IsNil() {
			req.Extension = fmt.Appendf(nil, "price %d", i)
		}
		resp := ask(t, all[i], req)
		if wins := i == 0; wins != (resp.Refused == "") || wins != (resp.Signature != nil) || wins != (resp.ExtensionSignature != nil) {
			t.Errorf("signer %d answers %+v", i, resp)
		}
	}
}

// TestConcurrentShared: three signers with eight nodes each on one mark, with answers
// that are lost or come late.
func TestConcurrentShared(t *testing.T) {
	requests := 300_000
	if testing.Short() {
		requests = 30_000
	}
	root := storetest.NewFake(watermark.Mark{})
	w := &crowd{open: openCheap, pace: 20}
	var all []signer.Config
	var lost atomic.Int64
	for i := range uint64(3) {
		c := cheapConfig(&cheapKey{})
		c.Shared = true
		c.Store = &risingStore{Store: &fatedStore{root.Another(), lossy(rand.New(rand.NewPCG(i, 5)), &lost)}}
		all = append(all, c)
	}
	w.run(t, requests, all...)
	for i, s := range w.signers {
		if last, stored := s.Last().Mark, root.Saved().Mark; stored.Less(last) {
			t.Errorf("signer %d is at %v, the store at %v", i, last, stored)
		}
	}
	w.check(t, root.Saved().Mark)
	t.Logf("%d answers were lost", lost.Load())
	if lost.Load() == 0 {
		t.Error("no answer was lost")
	}
}

// lossy loses an answer now and then, before or after the call was executed, or has it
// executed later, and counts them.
func lossy(rng *rand.Rand, lost *atomic.Int64) func(*storetest.Fake) {
	return func(f *storetest.Fake) {
		if rng.IntN(1000) == 0 {
			lost.Add(1)
			f.Script([]storetest.Outcome{storetest.Before, storetest.After, storetest.Late}[rng.IntN(3)])
		}
	}
}
