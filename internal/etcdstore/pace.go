package etcdstore

import (
	"slices"
	"time"
)

const (
	// slow is what a swap may take before another member is looked for. It is far above a
	// swap on disks and networks that work.
	slow = 20 * time.Millisecond
	// remembered is for how long it counts what a member has taken.
	remembered = 10 * time.Minute
)

// round is the members in the order of the endpoints, and which of them is asked.
type round struct {
	at    int
	known []pace
	last  [4]time.Duration // what the last swaps by this member took
	n     int              // how many there were
}

// pace is how fast a member was, and when. The zero value: it is not known.
type pace struct {
	took time.Duration
	when time.Time
}

// failed goes on to the next member. The present one counts as slow for a while.
func (r *round) failed(after time.Duration, now time.Time) {
	r.known[r.at] = pace{after, now}
	r.next()
}

func (r *round) next() { r.move((r.at + 1) % len(r.known)) }

func (r *round) move(to int) { r.at, r.n = to, 0 }

// took notes what a swap has taken, and reports whether another member is to be asked from
// now on. One by which even the fastest of some swaps was slow is left for one that was
// twice as fast, or is not known: its disk may be slow, or its way to the leader, and a
// member with a slow disk costs nothing as long as nobody asks it.
func (r *round) took(d time.Duration, now time.Time) (moved bool) {
	r.last[r.n%len(r.last)] = d
	if r.n++; r.n < len(r.last) {
		return false
	}
	fastest := slices.Min(r.last[:])
	r.known[r.at] = pace{fastest, now}
	if fastest < slow {
		return false
	}
	best, to := fastest/2, r.at
	for i := range r.known {
		i = (r.at + i) % len(r.known)
		took := r.known[i].took
		if now.Sub(r.known[i].when) > remembered {
			took = 0
		}
		if took < best {
			best, to = took, i
		}
	}
	moved = to != r.at
	r.move(to)
	return moved
}
