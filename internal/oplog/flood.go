package oplog

import (
	"sync"
	"time"
)

// Flood lets the lines of an untrusted writer through by drops, who may write any number of them: a
// burst, and then so many in a time. Its methods are safe for concurrent use.
type Flood struct {
	burst, perSecond float64

	mu     sync.Mutex
	tokens float64
	at     time.Time
	lost   int
}

// NewFlood returns one that lets burst lines through at once, and n more in each time.
func NewFlood(burst, n int, each time.Duration) *Flood {
	return &Flood{burst: float64(burst), perSecond: float64(n) / each.Seconds(), tokens: float64(burst)}
}

// Allow reports whether one more line may pass, and, with the first that may after some that
// might not, how many those were.
func (f *Flood) Allow(now time.Time) (ok bool, lost int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.at.IsZero() {
		f.tokens = min(f.tokens+max(0, now.Sub(f.at).Seconds())*f.perSecond, f.burst)
	}
	f.at = now
	if f.tokens < 1 {
		f.lost++
		return false, 0
	}
	f.tokens--
	return true, f.take()
}

// Lost returns how many lines might not pass since it was said last, as at the end of all.
func (f *Flood) Lost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.take()
}

func (f *Flood) take() (lost int) {
	lost, f.lost = f.lost, 0
	return lost
}
