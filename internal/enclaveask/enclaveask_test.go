package enclaveask

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/enclavehost"
	"privyseal/internal/vsock"
)

// forbidden is an enclave whose ports this process may not take.
type forbidden struct{ dialled int }

func (f *forbidden) Dial(context.Context, uint32) (vsock.Conn, error) {
	f.dialled++
	return nil, fmt.Errorf("cannot dial: %w", syscall.EACCES)
}

// A missing right is reported at once, and not as an enclave that does not answer.
func TestNoRightToTheEnclave(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := &forbidden{}
	err := (&Conversation{}).Connect(ctx, f, [32]byte{}, Words{Silent: "look"})
	if !errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "does not answer") || f.dialled != 1 {
		t.Errorf("dialled %d times: %v", f.dialled, err)
	}
}

// loading is an enclave that loads, and then ends: until it was said a few times that it loads,
// a dial waits.
type loading struct {
	ticks chan time.Time
	said  chan time.Duration
	bound time.Time // of the wait, as a dial sees it
}

func (l *loading) Dial(ctx context.Context, _ uint32) (vsock.Conn, error) {
	l.bound, _ = ctx.Deadline()
	for range 3 {
		select {
		case l.ticks <- time.Time{}:
			<-l.said
		case <-time.After(20 * time.Second):
			return nil, fmt.Errorf("%w: and nobody was told", enclavehost.ErrEnded)
		}
	}
	return nil, fmt.Errorf("%w: no memory", enclavehost.ErrEnded)
}

// A long wait is said from time to time, and ends with the enclave, at once. How long it may be
// is for those who know what is launched.
func TestWaiting(t *testing.T) {
	for _, boot := range []time.Duration{0, time.Hour} {
		l := &loading{ticks: make(chan time.Time), said: make(chan time.Duration)}
		c := &Conversation{ticks: l.ticks, Waiting: func(d time.Duration) { l.said <- d }}
		begun := time.Now()
		err := c.Connect(t.Context(), l, [32]byte{}, Words{Silent: "look", Boot: boot})
		if !errors.Is(err, enclavehost.ErrEnded) || !strings.HasSuffix(err.Error(), ": no memory") || strings.Contains(err.Error(), "does not answer") {
			t.Error(err)
		}
		if long := l.bound.Sub(begun) > 10*time.Minute; long != (boot == time.Hour) {
			t.Errorf("a wait of %v, want %v", l.bound.Sub(begun), boot)
		}
	}
}

// One who hears of no wait waits as well.
func TestWaitingUnheard(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&Conversation{}).Connect(ctx, refusing{}, [32]byte{}, Words{Silent: "look"}); err == nil || !strings.Contains(err.Error(), "does not answer: nobody; look") {
		t.Error(err)
	}
}

// refusing is an enclave where nobody listens.
type refusing struct{}

func (refusing) Dial(context.Context, uint32) (vsock.Conn, error) { return nil, errors.New("nobody") }
