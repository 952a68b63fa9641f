package etcd

import (
	"context"
	"fmt"
)

// Range reads a key, as it is after everything that was acknowledged to anybody before;
// with a revision other than 0 as it was then.
func (c *Conn) Range(ctx context.Context, key string, revision uint64) (Range, error) {
	var r Range
	err := c.ask(ctx, "KV/Range", true, appendRange(nil, key, revision), &r.Header, func(b []byte) error {
		err := r.decode(key, b)
		if err == nil && r.Value.Modified > r.Header.Revision {
			err = fmt.Errorf("a value of revision %d at revision %d", r.Value.Modified, r.Header.Revision)
		}
		return err
	})
	return r, err
}

// Txn puts a new value where the old one still is, and otherwise returns what is there.
func (c *Conn) Txn(ctx context.Context, t Txn) (TxnResult, error) {
	var r TxnResult
	err := c.ask(ctx, "KV/Txn", true, t.append(nil), &r.Header, func(b []byte) error { return r.decode(t.Key, b) })
	return r, err
}

// Status asks the member how it is. It answers by itself, without the others.
func (c *Conn) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.ask(ctx, "Maintenance/Status", false, nil, &s.Header, s.decode)
	return s, err
}

// ask makes a call and decodes the answer. A member that answers what no etcd does is not
// asked again, and whether it has executed the request is not known. h is the header of what
// decode has read, or nil where etcd 3.4 leaves that empty.
func (c *Conn) ask(ctx context.Context, method string, needsLeader bool, request []byte, h *Header, decode func([]byte) error) error {
	answer, err := c.call(ctx, method, needsLeader, request)
	if err != nil {
		return err
	}
	err = decode(answer)
	if err == nil && h != nil {
		err = h.check()
	}
	if err != nil {
		err = fmt.Errorf("%s, %s: an invalid answer: %w", c.endpoint, method, err)
		c.fail(err)
	}
	return err
}
