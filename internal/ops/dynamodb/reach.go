package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/dynamostore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// engine returns the way to a mark.
func (t *table) engine(id watermark.ID) sharedmark.Engine {
	e, err := dynamostore.New(t.of(id))
	if err != nil { // Check has found it before
		return nowhere{err}
	}
	return way{e, t}
}

// nowhere is the way of a table that cannot be.
type nowhere struct{ err error }

func (n nowhere) Ready(context.Context) (sharedmark.Position, bool, error) {
	return sharedmark.Position{}, false, n.err
}
func (n nowhere) Read(context.Context) (sharedmark.At, error) { return sharedmark.At{}, n.err }
func (n nowhere) Swap(context.Context, sharedmark.At, []byte) (sharedmark.At, bool, error) {
	return sharedmark.At{}, false, n.err
}
func (n nowhere) Close() error { return nil }

// way is a way to a mark that says what to do where it leads nowhere.
type way struct {
	*dynamostore.Engine
	of *table
}

// Ready implements [sharedmark.Engine].
func (w way) Ready(ctx context.Context) (sharedmark.Position, bool, error) {
	p, fresh, err := w.Engine.Ready(ctx)
	return p, fresh, w.of.explain(err)
}

// Read implements [sharedmark.Engine].
func (w way) Read(ctx context.Context) (sharedmark.At, error) {
	at, err := w.Engine.Read(ctx)
	return at, w.of.explain(err)
}

// Swap implements [sharedmark.Engine].
func (w way) Swap(ctx context.Context, old sharedmark.At, value []byte) (sharedmark.At, bool, error) {
	now, won, err := w.Engine.Swap(ctx, old, value)
	return now, won, w.of.explain(err)
}

// lookPatience is how long a table is looked at by who only looks.
const lookPatience = 5 * time.Second

// look looks at the table and at what this role may do there with a mark, that of the zero id if
// none is known, and changes nothing.
func (t *table) look(ctx context.Context, id watermark.ID) (dynamostore.Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	of := t.of(id)
	of.Try = dynamostore.MaxTry
	return dynamostore.Look(ctx, of)
}

// pin is the line of the config by which no table but one is accepted.
func pin(id string) string { return fmt.Sprintf("table_id = %q", id) }

// prepare finds out whether a signer of this role can have its mark in the table, and pins
// which table that is.
func (t *table) prepare(ctx context.Context, id watermark.ID) (line string, err error) {
	seen, err := t.look(ctx, id)
	if err == nil && len(seen.Denied) > 0 {
		err = seen.Denied[0]
	}
	if err != nil {
		return "", t.explain(err)
	}
	if t.TableID == "" {
		t.TableID, line = seen.ID, pin(seen.ID)
	}
	return line, nil
}

// page is where the steps of an operator stand.
const page = "doc/dynamodb.md"

// explain adds the next step to why the table was not reached, where one is known.
func (t *table) explain(err error) error {
	next := ""
	switch {
	case errors.Is(err, dynamostore.ErrDenied):
		next = "the role of this host needs dynamodb:DescribeTable, dynamodb:GetItem and dynamodb:PutItem for this table: " + page + " has the policy"
	case errors.Is(err, dynamostore.ErrNoTable):
		next = "correct table, region or account; or make it, as in " + page
	case errors.Is(err, dynamostore.ErrExpired), errors.Is(err, dynamostore.ErrCredentials):
		next = noRole
	case errors.Is(err, dynamostore.ErrClock):
		next = "look at the clock of this host with `date`"
	case errors.Is(err, dynamostore.ErrTLS):
		next = "look at what is at " + t.shown() + ": AWS's certificate is one for this name"
	}
	if next == "" {
		return err
	}
	return cure.Add(err, "%s", next)
}

// shown is where the table is, for people.
func (t *table) shown() string {
	if t.Endpoint != "" {
		return t.Endpoint
	}
	return "region " + t.Region
}
