package etcdstore

import (
	"context"
	"fmt"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/sharedmark"
)

// errUnready is for a call without [Engine.Ready].
var errUnready = fmt.Errorf("there is no connection to etcd: %w", etcd.ErrNotSent)

// late is why a try ended: it had lasted for that long.
type late time.Duration

func (d late) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(d)) }

func (d late) Is(target error) bool { return target == context.DeadlineExceeded }

// fault is an error of the wire, in the words of sharedmark.
type fault struct {
	error
	notSent bool // nothing was written, and nothing will be
	refused bool // every member would say the same
}

func (f *fault) Unwrap() error { return f.error }

func (f *fault) Is(target error) bool {
	return f.notSent && target == sharedmark.ErrNotSent || f.refused && target == sharedmark.ErrRefused
}
