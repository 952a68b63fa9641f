package sharedmark

import (
	"context"
	"time"
)

// Pause is how a Store waits, unless a test says otherwise.
func Pause(ctx context.Context, n int) { pause(ctx, n) }

// SetClock makes time pass as a test says: a pause takes what pause adds to now.
func (s *Store) SetClock(now func() time.Time, pause func(ctx context.Context, n int)) {
	s.now, s.pause = now, pause
}
