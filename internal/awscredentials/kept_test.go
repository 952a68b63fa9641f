package awscredentials

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/secret"
)

// role hands out credentials of an hour, numbered.
type role struct {
	asked atomic.Int64

	mu   sync.Mutex
	slow time.Duration
	err  error
}

// is changes how it answers from now on.
func (r *role) is(slow time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow, r.err = slow, err
}

func (r *role) Credentials(ctx context.Context) (secret.AWS, error) {
	n := r.asked.Add(1)
	r.mu.Lock()
	slow, err := r.slow, r.err
	r.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return secret.AWS{}, ctx.Err()
	}
	return secret.AWS{AccessKeyID: fmt.Sprint("AKIA-", n), SessionToken: secret.New(fmt.Sprint(n)), Expires: time.Now().Add(time.Hour)}, err
}

func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &role{slow: time.Second}
		k := &Kept{Source: r}
		begun := time.Now()
		at := func(then, wait time.Duration, want string) secret.AWS {
			t.Helper()
			time.Sleep(time.Until(begun.Add(then)))
			start := time.Now()
			c, err := k.Credentials(t.Context())
			if err != nil || c.AccessKeyID != want || time.Since(start) != wait {
				t.Fatalf("after %v: %s, %v, in %v", then, c.AccessKeyID, err, time.Since(start))
			}
			return c
		}
		at(0, time.Second, "AKIA-1") // nothing is kept yet: this call waits
		at(54*time.Minute, 0, "AKIA-1")
		at(56*time.Minute, 0, "AKIA-1") // about to end: looked for, and nobody waits
		at(57*time.Minute, 0, "AKIA-2")
		c := at(58*time.Minute, 0, "AKIA-2")
		k.Refused(secret.AWS{AccessKeyID: "AKIA-1"}) // of an older call
		at(58*time.Minute, 0, "AKIA-2")
		k.Refused(c)
		at(59*time.Minute, time.Second, "AKIA-3")

		// Slept through the end, as a machine does that is suspended: the old ones are not used.
		at(5*time.Hour, time.Second, "AKIA-4")
		gone := errors.New("no role any more")
		r.is(time.Second, gone)
		at(5*time.Hour+56*time.Minute, 0, "AKIA-4")
		at(5*time.Hour+59*time.Minute, 0, "AKIA-4")
		time.Sleep(time.Hour)
		if c, err := k.Credentials(t.Context()); !errors.Is(err, gone) || c.AccessKeyID == "AKIA-4" {
			t.Errorf("after their end: %+v, %v", c, err)
		}

		// A source that hangs is waited for as long as a call has time, and given up.
		r.is(time.Hour, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		if _, err := k.Credentials(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(lookTimeout)
		r.is(0, nil)
		if _, err := k.Credentials(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// Many that call at once ask the source once.
func TestKeptAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &role{slow: time.Second}
		k := &Kept{Source: r}
		for range 50 {
			go func() {
				if c, err := k.Credentials(t.Context()); err != nil || c.AccessKeyID != "AKIA-1" {
					t.Errorf("%+v, %v", c, err)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := r.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}
