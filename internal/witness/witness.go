// Package witness watches a chain through the RPC of nodes, for the one thing that
// no state of ours can know: whether somebody else signs with our key, or we did so
// with a newer state than the one that was loaded.
//
// A witness is not trusted. What counts is a signature of our key, which nobody can
// forge, and a tip, which only makes us more careful: it says up to which height
// nothing is signed after a start, and above which height nothing is signed at all.
// Where signers of several hosts share the mark, what one of them has made is ours too: the
// mark says so, which is loaded before anything is called a proof.
// A witness can hide a signature, and can pretend a tip, which costs blocks after a
// start; it cannot make us sign anything.
//
// The steps of a [Watch]:
//
//	waiting      until a witness has answered; no longer than Config.Wait
//	quarantine   if the mark was not made by a signer that ran here: until the chain
//	             has shown some blocks without us, or that it waits for us
//	open         requests pass; every new commit is looked at
//	stopped      a signature of ours that we did not make was seen: for good
//
// Nothing here is on the way of a signature but one atomic load, and a lock that is
// held for the copy of a mark.
package witness

import (
	"context"
	"errors"
	"sync"
	"time"

	"privyseal/internal/watermark"
)

// New returns a watch that holds everything back until it runs and a witness has
// answered. Begin has to be called before Run.
func New(c Config) (*Watch, error) {
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	w := &Watch{c: c, clean: map[int64]bool{}, changed: make(chan struct{}), begun: time.Now()}
	for _, addr := range c.Addrs {
		client, err := NewClient(addr, c.Address)
		if err != nil {
			return nil, err
		}
		w.sources = append(w.sources, &source{w: w, addr: addr, client: client})
	}
	if len(w.sources) == 0 {
		return nil, errors.New("a watch without a witness")
	}
	if c.Running {
		w.phase = open
	}
	w.publish()
	return w, nil
}

// Begin notes the mark that was loaded. The time of the start runs from here. Where other
// signers share the mark, load returns one that is not older than the moment of the call;
// elsewhere it is nil.
func (w *Watch) Begin(mark watermark.Mark, load Load) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark, w.newest, w.load, w.begun = mark, mark, load, time.Now()
	w.publish()
}

// Bounds returns what the witnesses let pass now. It never blocks.
func (w *Watch) Bounds() watermark.Bounds { return *w.bounds.Load() }

// Signed notes a mark of ours, before its signature leaves. Only precommits come
// back in commits. sig may be nil where it is not known.
func (w *Watch) Signed(m watermark.Mark, sig []byte) {
	if m.Step == watermark.StepPrecommit {
		w.made.add(m, sig)
	}
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, s := range w.sources {
		group.Go(func() { s.run(ctx) })
	}
	w.tick(ctx)
	group.Wait()
}

// tick lets time pass while requests are held back.
func (w *Watch) tick(ctx context.Context) {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		w.mu.Lock()
		w.step(time.Now())
		held := w.phase == waiting || w.phase == quarantined
		w.mu.Unlock()
		if !held {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
