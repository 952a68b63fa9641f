package watermark

import (
	"fmt"
	"time"
)

// The defaults of [Heights]. Ten heights a second is faster than any public
// chain; 100,000 is a day of a fast one.
const (
	DefaultHeightBurst     = 100_000
	DefaultHeightPerSecond = 10

	// MaxFirstHeight bounds the first mark of a fresh state.
	MaxFirstHeight = 1_000_000_000
)

// Heights watches by how much requests raise the height. It is a bucket, so
// that no hostile request can carry the mark out of reach for ever, and it
// keeps the height in which a load happened from being signed twice: a
// restored snapshot or an old copy of the state may have signed it already.
//
// The zero value refuses every raise until [Heights.Loaded] was called. It is
// not safe for concurrent use.
type Heights struct {
	Burst     int64 // size of the bucket; 0 is DefaultHeightBurst
	PerSecond int64 // refill; 0 is DefaultHeightPerSecond
	Max       int64 // highest height that is ever signed; 0 is no bound
	Floor     int64 // nothing at or below it is signed

	loaded bool
	level  float64
	at     time.Time
	// first is true until the first raise after a load was judged.
	first bool
	// skip is the height that is refused whole.
	skip int64
}

func (h *Heights) burst() float64 {
	if h.Burst > 0 {
		return float64(h.Burst)
	}
	return DefaultHeightBurst
}

func (h *Heights) perSecond() float64 {
	if h.PerSecond > 0 {
		return float64(h.PerSecond)
	}
	return DefaultHeightPerSecond
}

// Loaded tells that s was loaded. The first load of a process fills the bucket
// and adds what the chain may have grown by since the mark was written; later
// ones (after a store failed) add nothing, so that failures cannot be used to
// fill it.
func (h *Heights) Loaded(s Saved, now time.Time) {
	if !h.loaded {
		h.level, h.at = h.burst(), now
		if !s.Time.IsZero() {
			// A clock that stood at 1970 must not open the bucket for ever.
			h.level += min(MaxFirstHeight, h.perSecond()*max(0, now.Sub(s.Time).Seconds()))
		}
	}
	h.loaded, h.first = true, true
}

// Allow judges the height of req against the last mark. It changes nothing but
// the note of which height is skipped; [Heights.Spend] takes from the bucket
// once the new mark is durable. The error is a *[RefusedError].
func (h *Heights) Allow(last, req Mark, now time.Time) error {
	refuse := func(r Reason, detail string) error {
		return &RefusedError{Reason: r, Last: last, Request: req, Detail: detail}
	}
	raise := req.Height - last.Height
	switch {
	case !h.loaded:
		return refuse(HeightGap, "no mark was loaded")
	case h.Max > 0 && req.Height > h.Max:
		return refuse(HeightMax, fmt.Sprintf("max_height is %d", h.Max))
	case req.Height <= h.Floor:
		return refuse(HeightFloor, fmt.Sprintf("nothing is signed up to height %d", h.Floor))
	case last.IsZero():
		if req.Height >= MaxFirstHeight {
			return refuse(HeightLeap, fmt.Sprintf("the first height of a fresh state must be below %d", MaxFirstHeight))
		}
		return nil
	case raise == 0:
		return nil
	}
	if allowed := h.levelAt(now); float64(raise) > allowed {
		return refuse(HeightLeap, fmt.Sprintf("%d heights ahead, %d allowed now; see height_burst", raise, int64(allowed)))
	}
	if h.first {
		h.first = false
		if raise > 1 {
			h.skip = req.Height
		}
	}
	if req.Height <= h.skip {
		return refuse(HeightGap, fmt.Sprintf("height %d may have been signed with a newer state; signing goes on at %d", h.skip, h.skip+1))
	}
	return nil
}

// Spend takes the raise from last to m out of the bucket.
func (h *Heights) Spend(last, m Mark, now time.Time) {
	if last.IsZero() {
		h.first = false
		return
	}
	h.level = h.levelAt(now) - float64(m.Height-last.Height)
	h.at = now
}

// levelAt returns what the bucket holds at now. What the first load put in on
// top of the bucket's size stays until it is spent, and is not refilled.
func (h *Heights) levelAt(now time.Time) float64 {
	gained := h.perSecond() * max(0, now.Sub(h.at).Seconds())
	if h.level >= h.burst() {
		return h.level
	}
	return min(h.burst(), h.level+gained)
}
