package witness

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"privyseal/internal/watermark"
)

const (
	// DefaultWait is how long a start waits for a witness.
	DefaultWait = 30 * time.Second

	// QuarantineBlocks is how many new blocks without a signature of ours end a
	// quarantine. So does quarantineSilence without any new block: then the chain
	// waits for us.
	QuarantineBlocks  = 3
	quarantineSilence = time.Minute
	// quarantineBlind is how long a quarantine goes on while the chain does, and no
	// witness shows the final commit of any new block: one that keeps none, or hides
	// them. Where blocks come within quarantineSilence, each is seen long before.
	quarantineBlind = 2 * quarantineSilence

	// pollPause is the time between two looks at a node; eagerPause while requests are
	// held back; maxPause where it fails.
	pollPause  = time.Second
	eagerPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second

	// settleTime is how long the first answer waits for those of other witnesses.
	settleTime = time.Second
	// clockSlack is by how much the clocks of two machines may differ when a vote is
	// dated before or after a moment of ours.
	clockSlack = 5 * time.Second
)

// Config says what is watched. All but Wait, Quarantine, Passed and Proved is
// required.
type Config struct {
	ChainID string
	Addrs   []string // see [CheckAddr]
	// Address is that of our validator, PublicKey our key for people, Verify
	// reports whether sig is a signature of it over msg.
	Address   [20]byte
	PublicKey string
	Verify    func(msg, sig []byte) bool

	// Wait is how long a start waits for an answer. 0 is DefaultWait.
	Wait time.Duration
	// Running is set if the chain signs already, and has other witnesses now: then
	// nothing is held back.
	Running bool
	// Quarantine is set if the mark is not one of a signer that ran here. Passed is
	// called once it was passed.
	Quarantine bool
	Passed     func() error
	// Proved is called once, when another signer was proved.
	Proved func(Proof)
	Log    *slog.Logger
}

// Load returns a shared mark as it is now, at least up to one that is asked for, if there is
// any such. It may be called by several goroutines at once, and ends with ctx.
type Load func(ctx context.Context, upTo watermark.Mark) (watermark.Mark, error)

// Watch watches one chain. Its methods are safe for concurrent use.
type Watch struct {
	c      Config
	bounds atomic.Pointer[watermark.Bounds]
	made   memory

	mu      sync.Mutex
	phase   phase
	sources []*source
	mark    watermark.Mark // as it was loaded
	newest  watermark.Mark // of a shared one: as it was loaded last
	load    Load           // nil: it is not shared
	begun   time.Time
	changed chan struct{} // closed when the bounds change while requests are held
	// tip is the newest height of all witnesses, tipAt when it was new; expected is
	// the newest one of those that claim to be at the tip, for the ceiling.
	tip, expected     int64
	tipAt, expectedAt time.Time
	answered          time.Time // the last answer of any witness
	firstAnswer       time.Time
	floor             int64
	// judgeFrom is the height below which a signature proves nothing, because the
	// mark is not one of ours.
	judgeFrom int64
	clean     map[int64]bool // new heights without us, in a quarantine
	quietFrom time.Time      // since when no new block came
	judgedAt  time.Time      // when the final commit of a new height was last looked at
	judged    int64          // the highest one of these
	// unjudgedAt is when a shared mark could last not be loaded to judge a commit.
	unjudgedAt time.Time
	startTip   int64
	lies       int
	proof      *Proof
	warning    string
}

type phase int

func (p phase) String() string {
	return [...]string{"waiting", "quarantine", "open", "stopped"}[p]
}

const (
	waiting phase = iota
	quarantined
	open
	stopped
)

// source is one witness. Its fields belong to its own goroutine, but for those
// that mu of the watch guards.
type source struct {
	w      *Watch
	addr   string
	client *Client
	next   int64 // the first height whose final commit was not looked at; 0 before the first look
	seen   int64 // the newest height whose commit was looked at

	// With mu:
	looked     bool // it has answered, and its first commits were looked at
	failed     bool // an attempt came to nothing
	wrong      bool // it is a node of another chain
	catchingUp bool
	tip        int64
	problem    string
	lies       int
}

// step moves on to the next phase if it is time. The caller holds mu.
func (w *Watch) step(now time.Time) {
	switch w.phase {
	case waiting:
		w.stepWaiting(now)
	case quarantined:
		w.stepQuarantine(now)
	}
}

func (w *Watch) stepWaiting(now time.Time) {
	looked, reported, wrong, current := 0, 0, 0, 0
	for _, s := range w.sources {
		if s.looked {
			looked++
			if !s.catchingUp {
				current++
			}
		}
		if s.looked || s.failed {
			reported++
		}
		if s.wrong {
			wrong++
		}
	}
	settled := current > 0 && (reported == len(w.sources) || now.Sub(w.firstAnswer) >= settleTime)
	late := now.Sub(w.begun) >= w.c.Wait || wrong == len(w.sources)
	switch {
	case settled && w.c.Quarantine:
		w.phase, w.startTip, w.judged, w.quietFrom, w.judgedAt = quarantined, w.tip, w.tip, now, now
		w.c.Log.Warn("in quarantine: nothing is signed until the chain has shown that no other signer has our key",
			"blocks", QuarantineBlocks, "or_without_a_block", quarantineSilence, "height", w.tip)
		w.publish()
	case settled:
		w.open("")
	case late && looked > 0:
		w.open("every witness is still catching up with the chain")
	case late:
		w.open("no witness answers")
	}
}

func (w *Watch) stepQuarantine(now time.Time) {
	switch quiet := now.Sub(w.quietFrom); {
	case now.Sub(w.unjudgedAt) < maxPause:
		// It will be judged, again and again.
	case len(w.clean) >= QuarantineBlocks:
		w.pass(fmt.Sprintf("%d new blocks have no signature of ours", len(w.clean)))
	case quiet >= quarantineSilence && now.Sub(w.answered) < maxPause:
		w.pass("no new block came: the chain waits for us")
	case now.Sub(w.answered) >= max(w.c.Wait, maxPause):
		w.open("no witness answers any more; " + notPassed)
	case w.blind() && now.Sub(w.judgedAt) >= max(w.c.Wait, quarantineBlind):
		w.open("the witnesses answer, and show no commit of a new block; " + notPassed)
	}
}

const notPassed = "the quarantine was not passed, and will be repeated at the next start"

// blind reports whether the chain has a final commit, that of every height below its tip,
// which no witness has shown.
func (w *Watch) blind() bool { return w.tip > w.judged+1 }

// pass ends a quarantine.
func (w *Watch) pass(why string) {
	w.judgeFrom = w.tip + 1
	w.c.Log.Info("the quarantine is over", "why", why, "height", w.tip)
	if w.c.Passed != nil {
		if err := w.c.Passed(); err != nil {
			w.c.Log.Warn("cannot note that the quarantine was passed; it will be repeated at the next start", "error", err)
		}
	}
	w.open("")
}

// open lets requests pass, above the tip. A warning says why the tip is not known.
func (w *Watch) open(warning string) {
	w.phase, w.warning = open, warning
	if w.tip > 0 {
		// The height that the chain works on may have been signed, unless the mark
		// has gone as far as the chain.
		w.floor = w.tip
		if w.newest.Height < w.tip {
			w.floor = w.tip + 1
		}
	}
	if warning != "" {
		w.c.Log.Warn("signing without confirmation by a witness: only the gap rule protects against an old state", "why", warning, "waited", w.c.Wait)
	} else {
		w.c.Log.Info("a witness knows the chain", "tip", w.tip, "signing_above", w.floor)
	}
	w.publish()
}

// stop ends signing for good. The caller holds mu.
func (w *Watch) stop(p Proof) {
	if w.phase == stopped {
		return
	}
	w.phase, w.proof = stopped, &p
	w.publish()
	w.c.Log.Error("ANOTHER SIGNER: nothing is signed any more for this chain", "proof", p.String(), "witness", p.Witness)
	if w.c.Proved != nil {
		go w.c.Proved(p) // it writes files
	}
}

// publish makes the bounds of the present phase those of the signer.
func (w *Watch) publish() {
	b := &watermark.Bounds{Floor: w.floor, Tip: w.expected, TipAt: w.expectedAt}
	switch w.phase {
	case waiting:
		b.Hold = fmt.Sprintf("waiting for a witness of the chain, until %s at the latest", w.begun.Add(w.c.Wait).Format(time.TimeOnly))
	case quarantined:
		b.Hold = w.quarantineText()
	case stopped:
		b.Stop = w.proof.String()
	}
	held := b.Hold != ""
	if held {
		b.Changed = w.changed
	}
	w.bounds.Store(b)
	if !held && w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *Watch) quarantineText() string {
	text := fmt.Sprintf("in quarantine: %d of %d new blocks without a signature of ours seen since height %d", len(w.clean), QuarantineBlocks, w.startTip)
	if w.blind() {
		text += fmt.Sprintf("; no witness shows the commits after %d, and the chain is at %d (does a node prune its blocks?): without any for %s it ends, not passed",
			w.judged, w.tip, max(w.c.Wait, quarantineBlind))
	}
	return text
}
