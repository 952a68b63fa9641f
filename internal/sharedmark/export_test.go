package sharedmark

import (
	"context"
	"time"
)

// SetClock makes time pass as a test says: a pause takes what pause adds to now.
func (s *Store) SetClock(now func() time.Time, pause func(ctx context.Context, n int)) {
	s.now, s.pause = now, pause
}
