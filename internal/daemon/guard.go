package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/witness"
)

// Guard is what guards a chain beside its state: the watch over the chain, which a
// reload can change, and whether that has ended signing for good.
type Guard struct {
	state   string                        // path of the chain's state
	watch   atomic.Pointer[witness.Watch] // nil: there is no witness
	cancel  context.CancelFunc            // ends the watch; nil before it runs
	Cut     chan struct{}                 // closed when signing has ended for good
	stopped atomic.Pointer[error]         // why, then
	why     atomic.Pointer[string]        // the proof, from the moment that it was found
	floor   atomic.Int64                  // of the watches before: nothing is signed up to this height
	once    sync.Once                     // it ends once, whatever watch says so
}

// bounds is the Bounds of a signer.Config. What an earlier watch has found holds,
// whatever took its place: a reload lowers nothing.
func (w *Guard) bounds() (b watermark.Bounds) {
	if watch := w.watch.Load(); watch != nil {
		b = watch.Bounds()
	}
	b.Floor = max(b.Floor, w.floor.Load())
	if why := w.why.Load(); why != nil {
		b.Stop = *why
	}
	return b
}

// observe notes precommits before they leave, then calls next.
func (w *Guard) observe(next func(signer.Event)) func(signer.Event) {
	return func(e signer.Event) {
		if e.Err == nil && e.Signature != nil {
			w.Signed(e.Mark, e.Signature)
		}
		next(e)
	}
}

// Signed notes a mark that is signed now.
func (w *Guard) Signed(m watermark.Mark, sig []byte) {
	if watch := w.watch.Load(); watch != nil {
		watch.Signed(m, sig)
	}
}

// Begin notes the mark that was loaded, and how a shared one is loaded again, nil for any
// other.
func (w *Guard) Begin(m watermark.Mark, load witness.Load) {
	if watch := w.watch.Load(); watch != nil {
		watch.Begin(m, load)
	}
}

// Run watches until ctx or [Guard.unwatch] ends it.
func (w *Guard) Run(ctx context.Context) {
	if watch := w.watch.Load(); watch != nil && w.cancel == nil {
		ctx, w.cancel = context.WithCancel(ctx)
		go watch.Run(ctx)
	}
}

func (w *Guard) unwatch() {
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
}

// Final returns why the chain must never sign again, or nil.
func (w *Guard) Final() error {
	if err := w.stopped.Load(); err != nil {
		return *err
	}
	return nil
}

// Closed says why an enclave may not reach its nodes: nobody inside it hears of a
// witness, so what is held back is the way to it.
func (w *Guard) Closed() error {
	switch b := w.bounds(); {
	case b.Stop != "":
		return errors.New(b.Stop)
	case b.Hold != "":
		return fmt.Errorf("%w: %s", watermark.ErrHeld, b.Hold)
	}
	return nil
}
