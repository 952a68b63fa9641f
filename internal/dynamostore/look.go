package dynamostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/sharedmark"
)

// Seen is a table as who looks at it sees it, without any mark.
type Seen struct {
	ID        string // its TableId, "" if it was not described
	Protected bool   // it cannot be deleted before that is switched off
	// Took is the round trip of a consistent read, on a connection that is there.
	Took time.Duration
	// Denied are the calls of a signer that AWS does not allow, each an *[Error].
	Denied []*Error
}

// Look looks at the table, reads in it, asks for a write that cannot happen, and changes
// nothing. The error is that of [Engine.Ready] or [Engine.Read]; what is known of the table is
// returned all the same. With Denied there is none: what else a signer does was looked at.
func Look(ctx context.Context, c Config) (s Seen, err error) {
	e, err := New(c)
	if err != nil {
		return s, err
	}
	defer e.Close()
	for _, look := range []func(context.Context, *Engine) error{s.describe, s.read, refuseWrite} {
		err := look(ctx, e)
		if denied, ok := errors.AsType[*Error](err); ok && denied.Reason == ErrDenied {
			s.Denied = append(s.Denied, denied)
		} else if err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *Seen) describe(ctx context.Context, e *Engine) error {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	t, err := describe(ctx, &e.client)
	if err != nil {
		return err
	}
	s.ID, s.Protected = t.TableId, t.DeletionProtectionEnabled
	return t.judge(e.c)
}

func (s *Seen) read(ctx context.Context, e *Engine) error {
	for range 2 { // the first one has to warm up
		start := time.Now()
		if _, err := e.Read(ctx); err != nil {
			return err
		}
		s.Took = time.Since(start)
	}
	return nil
}

// refuseWrite asks, as a signer does, to write in the place of a value that was never there.
// AWS asks whether the role may write before it looks at the item: that the condition does not
// hold is what a role hears that may.
func refuseWrite(ctx context.Context, e *Engine) error {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	never := make([]byte, 32)
	rand.Read(never)
	err := e.call(ctx, "PutItem", put(e.c.Table, e.item, sharedmark.At{Value: never, Revision: 1}, sharedmark.At{Value: never, Revision: 2}), &struct{}{})
	if _, lost := errors.AsType[*lostError](err); lost {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: what answers for table %s writes whatever the condition says: two signers would sign", sharedmark.ErrRefused, e.c.Table)
	}
	return err
}
