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
