package watermark

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// The defaults of [Heights]. Ten heights a second is faster than any public
// chain; 100,000 is a day of a fast one.
const (
	DefaultHeightBurst     = 100_000
	DefaultHeightPerSecond = 10

	// leapFactor is how many times the bucket the first raise after a downtime may
	// be if a witness explains it; maxFirstHeight is what it may explain to a fresh
	// state, which costs nothing to make again.
	leapFactor     = 100
	maxFirstHeight = 1_000_000_000
)

// Bounds is what a witness of the chain says at one moment. The witness is not
// trusted: Floor, Stop and Hold only make us more careful, and what Tip opens
// is bounded. The zero value is that of a chain without a witness.
type Bounds struct {
	// Hold says why nothing is signed yet; "" lets requests pass. What it holds
	// back may be asked again.
	Hold string
	// Changed is closed when Hold is to be looked at again. It may be nil.
	Changed <-chan struct{}
	// Stop says why nothing is signed any more, for good.
	Stop string
	// Floor is a height up to which nothing is signed.
	Floor int64
	// Tip is the newest height that is known to be committed; 0 is unknown.
	Tip int64
	// TipAt is when the tip was new.
	TipAt time.Time
}

// ErrHeld says that a mark cannot be judged yet; see [Bounds].Hold.
var ErrHeld = errors.New("held back")

// Heights is the one gate for the height of a mark that is to be signed, new or
// recorded already. It bounds by how much requests raise the height, with a
// bucket, so that no hostile request can carry the mark out of reach forever,
// and it keeps the height in which a load happened from being signed twice: a
// restored snapshot or an old copy of the state may have signed it already.
//
// The zero value refuses everything until [Heights.Loaded] was called. It is
// not safe for concurrent use.
type Heights struct {
	Burst     int64 // size of the bucket, and the highest first height of a fresh state; 0 is DefaultHeightBurst
	PerSecond int64 // refill; 0 is DefaultHeightPerSecond
	Max       int64 // highest height that is ever signed; 0: no limit
	Floor     int64 // nothing at or below it is signed
	Shared    bool  // other signers raise the mark too, so that every load but the first is routine

	loaded bool
	level  float64
	at     time.Time
	// start is the height of the first load.
	start int64
	// first is true until the first raise after a load was judged.
	first bool
	// skip is the height that is refused whole.
	skip int64
}

func (h *Heights) burst() int64 {
	if h.Burst > 0 {
		return h.Burst
	}
	return DefaultHeightBurst
}

func (h *Heights) perSecond() float64 {
	if h.PerSecond > 0 {
		return float64(h.PerSecond)
	}
	return DefaultHeightPerSecond
}

// Loaded notes that s was loaded. The first load of a process fills the bucket,
// whatever the age of the mark: the clock, and a file's time, are not to be
// trusted with more. Later loads (after a store failed) add nothing, so that
// failures cannot be used to fill it. After each, the first raise is judged as after a
// start, unless the mark is shared: there a load is what a lost race, and a twin that is
// ahead, cost.
func (h *Heights) Loaded(s Saved, now time.Time) {
	if !h.loaded {
		h.level, h.at, h.start = float64(h.burst()), now, s.Mark.Height
	}
	h.first = h.first || !h.loaded || !h.Shared
	h.loaded = true
}

// Allow judges m, the mark that is to be signed: a new one, or last itself. It
// changes nothing but the note of which height is skipped; [Heights.Spend] takes
// from the bucket once the new mark is durable. The error is a *[RefusedError],
// or an [ErrHeld], which may pass.
func (h *Heights) Allow(last, m Mark, b Bounds, now time.Time) error {
	refuse := func(r Reason, format string, args ...any) error {
		return &RefusedError{Reason: r, Last: last, Request: m, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case b.Stop != "":
		return refuse(DuplicateSigner, "%s", b.Stop)
	case b.Hold != "":
		return fmt.Errorf("%w: %s", ErrHeld, b.Hold)
	case !h.loaded:
		return refuse(HeightGap, "no mark was loaded")
	case h.Max > 0 && m.Height > h.Max:
		return refuse(HeightMax, "max_height is %d", h.Max)
	case m.Height <= h.Floor:
		return refuse(HeightFloor, "nothing is signed up to height %d", h.Floor)
	case b.Tip > 0 && m.Height > h.ceiling(b, now):
		return refuse(HeightCeiling, "the chain's witness has seen height %d, and now expects none above %d", b.Tip, h.ceiling(b, now))
	}
	if allowed := h.leap(last, b, now); m.Height-last.Height > allowed {
		return refuse(HeightLeap, "%s; if somebody else than this node says that the chain is there, see `privyseal state raise --help`", h.leapDetail(last, m, allowed))
	}
	h.noteFirst(last, m, b)
	switch {
	case m.Height <= b.Floor:
		return refuse(HeightFloor, "by what the chain's witness showed at the start, another signer or an older state of ours may have signed up to %d", b.Floor)
	case m.Height <= h.skip:
		return refuse(HeightGap, "height %d may have been signed with a newer state; signing goes on at %d; if the chain waits for this key at %d, see `privyseal state raise --help`", h.skip, h.skip+1, h.skip)
	}
	return nil
}

// ceiling is the highest height that the chain can have reached: the tip, two
// more, and what the time since the tip was new allows.
func (h *Heights) ceiling(b Bounds, now time.Time) int64 {
	grown := h.perSecond() * max(0, now.Sub(b.TipAt).Seconds())
	if room := float64(math.MaxInt64 - b.Tip); grown+2 >= room {
		return math.MaxInt64
	}
	return b.Tip + 2 + int64(grown)
}

// leap returns by how much a mark may raise the height now. Until the height has
// moved since the first load, a witness that explains the raise widens that; not
// without end, because witness and node may be one and the same hostile machine.
func (h *Heights) leap(last Mark, b Bounds, now time.Time) int64 {
	burst := h.burst()
	switch {
	case last.IsZero() && b.Tip > 0:
		return max(burst, maxFirstHeight)
	case last.IsZero():
		return burst // the bucket of a fresh state is not touched by its first height
	case b.Tip > 0 && last.Height == h.start:
		return burst * min(leapFactor, math.MaxInt64/burst)
	}
	return int64(h.levelAt(now))
}

// Affords reports whether a request may raise the height of last that far now.
func (h *Heights) Affords(last Mark, height int64, b Bounds, now time.Time) bool {
	return height-last.Height <= h.leap(last, b, now)
}

func (h *Heights) leapDetail(last, m Mark, allowed int64) string {
	if last.IsZero() {
		return fmt.Sprintf("the first height of a fresh state is at most %d", allowed)
	}
	return fmt.Sprintf("%d heights ahead, %d allowed now (height_burst)", m.Height-last.Height, allowed)
}

// noteFirst judges the first raise after a load. What is below the floor of a
// witness is refused whatever the height of the load, and decides nothing.
func (h *Heights) noteFirst(last, m Mark, b Bounds) {
	raise := m.Height - last.Height
	if !h.first || last.IsZero() || raise == 0 || m.Height < b.Floor {
		return
	}
	h.first = false
	if raise > 1 {
		h.skip = m.Height
	}
}

// Spend takes the raise from last to m out of the bucket. A raise that a witness
// explained, above what was in it, takes nothing.
func (h *Heights) Spend(last, m Mark, now time.Time) {
	if last.IsZero() {
		h.first = false
		return
	}
	level, raise := h.levelAt(now), float64(m.Height-last.Height)
	if raise <= level {
		level -= raise
	}
	h.level, h.at = level, now
}

// levelAt returns what the bucket holds at now.
func (h *Heights) levelAt(now time.Time) float64 {
	gained := h.perSecond() * max(0, now.Sub(h.at).Seconds())
	return min(float64(h.burst()), h.level+gained)
}
