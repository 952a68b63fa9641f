package dynamostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
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

// Look looks at the table, reads the item of a mark, asks for a write that cannot happen, and
// changes nothing. The error is that of [Engine.Ready] or [Engine.Read]; what is known of the
// table is returned all the same. With Denied there is none: what else a signer does was looked
// at. What is in the item is not judged.
func Look(ctx context.Context, c Config) (s Seen, err error) {
	e, err := New(c)
	if err != nil {
		return s, err
	}
	defer e.Close()
	for _, look := range []func(context.Context, *Engine) error{s.describe, s.read, refuseWrite} {
		err := look(ctx, e)
		if denied, ok := deniedBy(err); ok {
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
		if _, err := e.Read(ctx); err != nil && !errors.Is(err, sharedmark.ErrForeign) {
			return err
		}
		s.Took = time.Since(start)
	}
	return nil
}

// deniedBy returns the error by which AWS does not allow a call.
func deniedBy(err error) (denied *Error, ok bool) {
	denied, ok = errors.AsType[*Error](err)
	return denied, ok && denied.Reason == ErrDenied
}

// noMark is the item of no chain.
var noMark = itemOf(watermark.ID{ChainID: "check"})

// refuseWrite asks whether the role may write the mark. What writes whatever the condition says does that
// to the item of no chain before it could do it to a mark; a role that is limited to the items of
// its chains is denied that one.
func refuseWrite(ctx context.Context, e *Engine) error {
	err := e.refuse(ctx, noMark)
	if _, denied := deniedBy(err); err == nil || denied {
		err = e.refuse(ctx, e.item)
	}
	return err
}

// refuse asks, as a signer does, to write an item in place of a value that was never there.
// AWS asks whether the role may write before it looks at the item: that the condition does not
// hold is what a role hears that may.
func (e *Engine) refuse(ctx context.Context, item string) error {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	never := make([]byte, 32)
	rand.Read(never)
	err := e.call(ctx, "PutItem", put(e.c.Table, item, sharedmark.At{Value: never, Revision: 1}, sharedmark.At{Value: never, Revision: 2}), &struct{}{})
	if _, lost := errors.AsType[*lostError](err); lost {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%w: what answers for table %s writes whatever the condition says: two signers would sign", sharedmark.ErrRefused, e.c.Table)
	}
	return err
}
