package awscredentials

import (
	"context"
	"sync"
	"time"

	"privyseal/internal/secret"
)

// Source finds credentials.
type Source interface {
	Credentials(ctx context.Context) (secret.AWS, error)
}

// renewAhead is how long before their end credentials are looked for again: AWS hands out
// those of a role five minutes and more before the old ones end. lastMoment is when the old
// ones are not used any more: a call with them may come too late.
const (
	renewAhead = 5 * time.Minute
	lastMoment = 15 * time.Second
)

// Kept keeps what a source has found, so that it can be asked before each call: until it is
// about to end, or AWS has refused it. It is renewed while the old one is still good, and no
// call waits for that. It is safe for concurrent use.
type Kept struct {
	Source Source

	mu      sync.Mutex
	found   secret.AWS // without an id: none
	renewal *renewal   // one that goes on; nil: none
}

// renewal is one question to the source.
type renewal struct {
	done  chan struct{}
	found secret.AWS
	err   error
}

// Credentials returns those that are kept, or waits for new ones.
func (k *Kept) Credentials(ctx context.Context) (secret.AWS, error) {
	c, r := k.look()
	if r == nil {
		return c, nil
	}
	select {
	case <-r.done:
		return r.found, r.err
	case <-ctx.Done():
		return secret.AWS{}, context.Cause(ctx)
	}
}

// look returns what is kept, or what to wait for.
func (k *Kept) look() (secret.AWS, *renewal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := renewAhead + 1
	if !k.found.Expires.IsZero() {
		left = time.Until(k.found.Expires)
	}
	if k.found.AccessKeyID != "" && left > renewAhead {
		return k.found, nil
	}
	if k.renewal == nil {
		k.renewal = &renewal{done: make(chan struct{})}
		go k.renew(k.renewal)
	}
	if k.found.AccessKeyID != "" && left > lastMoment {
		return k.found, nil
	}
	return secret.AWS{}, k.renewal
}

// renew asks the source. It bounds itself, so that one that hangs is asked again.
func (k *Kept) renew(r *renewal) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	r.found, r.err = k.Source.Credentials(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.err == nil {
		k.found = r.found
	}
	k.renewal = nil
	close(r.done)
}

// Refused says that AWS does not accept these any more.
func (k *Kept) Refused(c secret.AWS) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.found.AccessKeyID == c.AccessKeyID && k.found.SessionToken.Reveal() == c.SessionToken.Reveal() {
		k.found = secret.AWS{}
	}
}
