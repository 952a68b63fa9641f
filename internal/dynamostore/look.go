package dynamostore

import (
	"context"
	"time"
)

// Seen is a table as who looks at it sees it, without any mark.
type Seen struct {
	ID        string // its TableId
	Protected bool   // it cannot be deleted before that is switched off
	// Took is the round trip of a consistent read, on a connection that is there.
	Took time.Duration
}

// Look looks at the table, reads in it, and changes nothing. The error is that of
// [Engine.Ready] or [Engine.Read]; what is known of the table is returned all the same.
func Look(ctx context.Context, c Config) (s Seen, err error) {
	e, err := New(c)
	if err != nil {
		return s, err
	}
	defer e.Close()
	t, err := describe(ctx, &e.client)
	if err != nil {
		return s, err
	}
	s.ID, s.Protected = t.TableId, t.DeletionProtectionEnabled
	if err := t.judge(c); err != nil {
		return s, err
	}
	for range 2 { // the first one has to warm up
		start := time.Now()
		if _, err := e.Read(ctx); err != nil {
			return s, err
		}
		s.Took = time.Since(start)
	}
	return s, nil
}
