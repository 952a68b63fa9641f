package enclavehost

import (
	"log/slog"
	"sync"
	"time"
)

// How many log records of an enclave are taken over: at once, and a second.
const (
	floodBurst = 1000
	floodRate  = 100
)

// limiter lets a flood through by drops.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
	lost   int
}

func newLimiter() *limiter { return &limiter{tokens: floodBurst} }

// allow reports whether one more record may pass, and, with the first that may
// after some that might not, how many those were.
func (l *limiter) allow(now time.Time) (ok bool, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() {
		l.tokens = min(l.tokens+now.Sub(l.at).Seconds()*floodRate, floodBurst)
	}
	l.at = now
	if l.tokens < 1 {
		l.lost++
		return false, 0
	}
	l.tokens--
	lost, l.lost = l.lost, 0
	return true, lost
}

// repeatAfter is how soon the same warning is said again.
const repeatAfter = time.Minute

// deduper says a warning once that would come many times a second.
type deduper struct {
	mu   sync.Mutex
	last map[string]said
}

type said struct {
	text string
	at   time.Time
}

func newDeduper() *deduper { return &deduper{last: map[string]said{}} }

// warn logs the message, unless its last error was the same and not long ago.
func (d *deduper) warn(log *slog.Logger, message string, err error) {
	d.mu.Lock()
	last, now := d.last[message], said{err.Error(), time.Now()}
	repeated := last.text == now.text && now.at.Sub(last.at) < repeatAfter
	if !repeated {
		d.last[message] = now
	}
	d.mu.Unlock()
	if !repeated {
		log.Warn(message, "error", err)
	}
}
