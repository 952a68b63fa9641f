package etcdstore

import "time"

// SetClock has a test say when a look at the cluster is too old.
func (e *Engine) SetClock(now func() time.Time) { e.now = now }
