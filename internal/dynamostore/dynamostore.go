// Package dynamostore is the [sharedmark.Engine] on Amazon DynamoDB: one item for each mark,
// read consistently and written under a condition on all of the old one. One connection, one
// call at a time, no retries; what is in the value is not looked at.
//
// It is written by hand on crypto/tls and internal/awsjson, so that an enclave can link it.
//
// What is trusted: DynamoDB behind a TLS connection that ends here, for as long as the table
// is the same one and in one region. A restore of a backup makes a table with another
// TableId, which is the [sharedmark.Position]'s medium. The table behind a name is looked at
// on each new connection, and again whenever the last look is some seconds old: a table
// cannot be deleted and another one be made in its place in less. Replicas in other regions
// are refused: what one region acknowledges, another one does not know yet.
package dynamostore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"time"

	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// Engine is one item of one table. It is a [sharedmark.Engine].
type Engine struct {
	client
	item  string   // its key
	table [16]byte // the medium, as of the last look
}

var _ sharedmark.Engine = (*Engine)(nil)

// New returns an Engine that has called nobody.
func New(c Config) (*Engine, error) {
	var wrong error
	c.Check(func(key, what string) {
		wrong = errors.Join(wrong, fmt.Errorf("%s %s", key, what))
	})
	if wrong != nil {
		return nil, fmt.Errorf("cannot use the DynamoDB table: %w", wrong)
	}
	if c.Try == 0 {
		c.Try = DefaultTry
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	u, err := c.url()
	return &Engine{client: client{c: c, url: u}, item: itemOf(c.ID)}, err
}

// itemOf returns the key of a mark's item.
func itemOf(id watermark.ID) string { return fmt.Sprintf("%s/%x", id.ChainID, id.Key) }

// lookEvery is how old a look at the table may be. AWS takes longer than this to delete a
// table and make another one.
const lookEvery = 5 * time.Second

// Ready implements [sharedmark.Engine]. A look at the table makes the way a fresh one.
func (e *Engine) Ready(ctx context.Context) (p sharedmark.Position, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	if e.way != nil && !e.way.alive() {
		e.Close()
	}
	if age := e.c.Now().Sub(e.since); e.way == nil || e.since.IsZero() || age < 0 || age > lookEvery {
		if err := e.look(ctx); err != nil {
			return p, false, err
		}
		fresh = true
	}
	p.Medium = e.table
	return p, fresh, nil
}

// look finds out whether the table is one that marks can be in, and which one.
func (e *Engine) look(ctx context.Context) error {
	at := e.c.Now() // the answer is no older than that
	e.since = time.Time{}
	t, err := describe(ctx, &e.client)
	if err == nil {
		err = t.judge(e.c)
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("privyseal dynamodb 1\x00" + t.TableId))
	e.table, e.since = [16]byte(sum[:16]), at
	return nil
}

// Read implements [sharedmark.Engine].
func (e *Engine) Read(ctx context.Context) (sharedmark.At, error) {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	return e.get(ctx)
}

func (e *Engine) get(ctx context.Context) (sharedmark.At, error) {
	var a struct{ Item item }
	err := e.call(ctx, "GetItem", getRequest{e.c.Table, keyOf(e.item), true}, &a)
	if err != nil {
		return sharedmark.At{}, err
	}
	return a.Item.at(e.item)
}

// Swap implements [sharedmark.Engine].
func (e *Engine) Swap(ctx context.Context, old sharedmark.At, value []byte) (now sharedmark.At, won bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.c.Try)
	defer cancel()
	next := sharedmark.At{Value: bytes.Clone(value), Revision: old.Revision + 1}
	err = e.call(ctx, "PutItem", put(e.c.Table, e.item, old, next), &struct{}{})
	lost, isLost := errors.AsType[*lostError](err)
	switch {
	case err == nil:
		return next, true, nil
	case !isLost:
		return now, false, err
	}
	// Nothing was written, whatever we find out about what is there.
	if lost.item == nil {
		now, err = e.get(ctx) // a server that does not send it along
	} else {
		now, err = lost.item.at(e.item)
	}
	if err != nil && !errors.Is(err, sharedmark.ErrNotSent) {
		err = fmt.Errorf("%w: %w", sharedmark.ErrNotSent, err)
	}
	return now, false, err
}

// Close implements [sharedmark.Engine].
func (e *Engine) Close() error {
	e.drop()
	return nil
}
