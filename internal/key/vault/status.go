package vault

import (
	"sync"
	"time"
)

// Status is how a server does that signs with a key.
type Status struct {
	Address string
	// Failed is why the last signature failed, nil if it did not, or there was none yet.
	Failed error
	// Since is when Failed last changed between nil and an error, or when the key was opened.
	Since time.Time
	// Signatures counts those that verified. Took is how long all of them took, and LastTook
	// the last one.
	Signatures     uint64
	Took, LastTook time.Duration
}

// record is what is known of a server.
type record struct {
	mu sync.Mutex
	Status
}

// note adds what came of a signature.
func (r *record) note(took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if (r.Failed == nil) != (err == nil) {
		r.Since = time.Now()
	}
	r.Failed = err
	if err == nil {
		r.Signatures++
		r.Took += took
		r.LastTook = took
	}
}

// now returns a copy.
func (r *record) now() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Status
}
