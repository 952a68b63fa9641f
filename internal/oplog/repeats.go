package oplog

import (
	"sync"
	"time"
)

const (
	// repeatBurst lines of a kind are written as they come, and after those one in
	// each repeatPause, with the number of those that it stands for.
	repeatBurst = 10
	repeatPause = 30 * time.Second
)

// Repeats counts lines in place of writing them where many are of one kind. It
// bounds the log by the number of kinds, which are the caller's and must be few: a
// node and a reason, never a text of others. The zero value is ready, its methods
// are safe for concurrent use.
type Repeats struct {
	mu    sync.Mutex
	kinds map[string]*repeat
}

type repeat struct {
	free  int       // lines that may be written at once
	since time.Time // up to when free was refilled
	held  int64     // lines that were not written
	say   func(n int64)
	timer *time.Timer
}

// Admit reports whether the next line of a kind is to be written. If not, again is
// called later, on a goroutine of its own, to write one line for n of them.
func (r *Repeats) Admit(kind string, again func(n int64)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds == nil {
		r.kinds = map[string]*repeat{}
	}
	k := r.kinds[kind]
	if k == nil {
		k = &repeat{free: repeatBurst, since: time.Now()}
		r.kinds[kind] = k
	}
	k.refill(time.Now())
	if k.held == 0 && k.free > 0 {
		k.free--
		return true
	}
	if k.held == 0 {
		k.say = again
		k.timer = time.AfterFunc(repeatPause, func() { r.flush(k) })
	}
	k.held++
	return false
}

func (k *repeat) refill(now time.Time) {
	n := int(min(now.Sub(k.since)/repeatPause, repeatBurst))
	if k.free+n >= repeatBurst {
		k.free, k.since = repeatBurst, now
		return
	}
	k.free += n
	k.since = k.since.Add(time.Duration(n) * repeatPause)
}

// flush writes the line for those that were held. It takes the place of one that
// could be written by now.
func (r *Repeats) flush(k *repeat) {
	r.mu.Lock()
	n, say := k.held, k.say
	k.held = 0
	k.refill(time.Now())
	k.free = max(0, k.free-1)
	r.mu.Unlock()
	if n > 0 {
		say(n)
	}
}

// Flush writes what is held now, as at the end of a process.
func (r *Repeats) Flush() {
	r.mu.Lock()
	var held []*repeat
	for _, k := range r.kinds {
		if k.held > 0 && k.timer.Stop() {
			held = append(held, k)
		}
	}
	r.mu.Unlock()
	for _, k := range held {
		r.flush(k)
	}
}
