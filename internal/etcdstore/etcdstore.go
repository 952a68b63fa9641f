// Package etcdstore is the [sharedmark.Engine] on etcd: one key of a cluster, reached by
// one member at a time. It is linked into the measured program of an enclave.
//
// What matters when a member dies, hangs or has a slow disk is how long one try takes and
// where the next one goes. A member that is asked passes the request on to its leader, and
// if that dies the request is lost with nobody to say so: etcd itself waits for more than
// five seconds then. Therefore a try ends after a fraction of a second, and the next one
// goes to the next member.
package etcdstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/etcd"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// DefaultTry bounds a call, unless Config.Try is set: more than an fsync on a busy disk and
// a round trip to another continent, and less than a vote has time for.
const DefaultTry = 200 * time.Millisecond

// lookAgain is for how long a look at the cluster counts. Other members may be exchanged
// one by one while a connection lasts. Who does not see that finds, when it ends, that most
// of those it knew are gone, as after a restore.
const lookAgain = 30 * time.Second

// Config says where the value is. Endpoints and Key are required.
type Config struct {
	Dialer    etcd.Dialer
	Endpoints []string      // of the members of one cluster, in the order in which they are tried
	Key       string        // see [Key]
	Try       time.Duration // bounds each call; 0: DefaultTry
}

// Key returns the key of a mark: PREFIX/CHAIN/KEY ID, the last in hex.
func Key(prefix string, id watermark.ID) string {
	return prefix + "/" + id.ChainID + "/" + hex.EncodeToString(id.Key[:])
}

// Engine is one key of an etcd cluster. It is a [sharedmark.Engine].
type Engine struct {
	c     Config
	round round
	conn  *etcd.Conn  // to the member at which round is; nil: none
	who   etcd.Header // of that member, once it has answered
	seen  time.Time   // when the last look on conn was
	now   func() time.Time
}

var _ sharedmark.Engine = (*Engine)(nil)

// New returns an engine that has connected to nobody yet.
func New(c Config) *Engine {
	if c.Try == 0 {
		c.Try = DefaultTry
	}
	return &Engine{c: c, round: round{known: make([]pace, len(c.Endpoints))}, now: time.Now}
}

// Ready implements [sharedmark.Engine].
func (e *Engine) Ready(ctx context.Context) (p sharedmark.Position, fresh bool, err error) {
	if since := e.now().Sub(e.seen); e.conn != nil && since >= 0 && since < lookAgain {
		return p, false, nil
	}
	if e.conn == nil {
		err = e.connect(ctx)
	}
	if err == nil {
		p, err = e.look(ctx)
	}
	if err != nil {
		return sharedmark.Position{}, false, e.leave(err)
	}
	e.seen = e.now()
	return p, true, nil
}

func (e *Engine) connect(ctx context.Context) error {
	e.who = etcd.Header{}
	return e.try(ctx, func(ctx context.Context) (err error) {
		e.conn, err = e.c.Dialer.Dial(ctx, e.c.Endpoints[e.round.at])
		return err
	})
}

// look returns where the cluster stands, as the member that was just reached sees it.
//
// The read between has it catch up with all that was acknowledged before. The term is that
// of before it, and so of a leader; later the member may be a candidate of its own. The
// index comes before the revision, which may have risen since, so that it is never counted
// higher than it was.
func (e *Engine) look(ctx context.Context) (p sharedmark.Position, err error) {
	before, err := e.status(ctx)
	if err != nil {
		return p, err
	}
	if _, err := e.read(ctx); err != nil {
		return p, err
	}
	after, err := e.status(ctx)
	if err != nil {
		return p, err
	}
	later, err := e.status(ctx)
	if err != nil {
		return p, err
	}
	p = sharedmark.Position{Index: after.Applied, Revision: later.Header.Revision, Term: before.Term}
	binary.BigEndian.PutUint64(p.Medium[:], before.Header.Cluster)
	sum := sha256.Sum256([]byte("privyseal etcd 1\x00" + e.c.Key))
	p.Place = [8]byte(sum[:8])
	p.Members, err = e.voters(ctx)
	return p, err
}

func (e *Engine) status(ctx context.Context) (s etcd.Status, err error) {
	err = e.ask(ctx, &s.Header, func(ctx context.Context) (err error) {
		s, err = e.conn.Status(ctx)
		return err
	})
	return s, err
}

// voters returns the members without the learners, who come and go, and count for nothing.
func (e *Engine) voters(ctx context.Context) (ids []uint64, err error) {
	var m etcd.Members
	err = e.ask(ctx, &m.Header, func(ctx context.Context) (err error) {
		m, err = e.conn.Members(ctx)
		return err
	})
	for _, member := range m.Members {
		if !member.Learner {
			ids = append(ids, member.ID)
		}
	}
	return ids, err
}

// Read implements [sharedmark.Engine].
func (e *Engine) Read(ctx context.Context) (sharedmark.At, error) {
	v, err := e.read(ctx)
	if err != nil {
		return sharedmark.At{}, e.leave(err)
	}
	return at(v), nil
}

func (e *Engine) read(ctx context.Context) (etcd.Value, error) {
	var r etcd.Range
	err := e.ask(ctx, &r.Header, func(ctx context.Context) (err error) {
		r, err = e.conn.Range(ctx, e.c.Key, 0)
		return err
	})
	return r.Value, err
}

// Swap implements [sharedmark.Engine].
func (e *Engine) Swap(ctx context.Context, old sharedmark.At, value []byte) (now sharedmark.At, won bool, err error) {
	var r etcd.TxnResult
	start := time.Now()
	err = e.ask(ctx, &r.Header, func(ctx context.Context) (err error) {
		r, err = e.conn.Txn(ctx, etcd.Txn{Key: e.c.Key, Old: old.Value, Revision: old.Revision, New: value})
		return err
	})
	if err != nil {
		return now, false, e.leave(err)
	}
	if now := time.Now(); e.round.took(now.Sub(start), now) {
		e.drop()
	}
	if r.Won {
		return sharedmark.At{Value: value, Revision: r.Header.Revision}, true, nil
	}
	return at(r.Now), false, nil
}

// at returns a value as sharedmark has it. An empty one is a value.
func at(v etcd.Value) sharedmark.At {
	if v.Modified > 0 && v.Bytes == nil {
		v.Bytes = []byte{}
	}
	return sharedmark.At{Value: v.Bytes, Revision: v.Modified}
}

// Close implements [sharedmark.Engine]. The next way leads to the next member.
func (e *Engine) Close() error {
	e.drop()
	e.round.next()
	return nil
}

func (e *Engine) drop() {
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
	}
}

// ask does one call, and looks whether the member that answered, by the header, is the one
// of before: a proxy between that spreads calls would make the fence worth nothing.
func (e *Engine) ask(ctx context.Context, h *etcd.Header, call func(context.Context) error) error {
	if e.conn == nil {
		return errUnready
	}
	if err := e.try(ctx, call); err != nil {
		return err
	}
	if e.who.Member == 0 {
		e.who = *h
	}
	if h.Member != e.who.Member || h.Cluster != e.who.Cluster {
		return fmt.Errorf("member %016x of cluster %016x answers in place of member %016x of cluster %016x: a proxy spreads the calls of one connection, and an endpoint has to be one member",
			h.Member, h.Cluster, e.who.Member, e.who.Cluster)
	}
	return nil
}

// try bounds one call.
func (e *Engine) try(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, e.c.Try, late(e.c.Try))
	defer cancel()
	return call(ctx)
}

// leave goes on to the next member after an error, which it returns as sharedmark has it.
func (e *Engine) leave(err error) error {
	f := &fault{err, errors.Is(err, etcd.ErrNotSent), false}
	if status, ok := errors.AsType[*etcd.Error](err); ok {
		f.error = fmt.Errorf("%s: %w", e.c.Endpoints[e.round.at], err) // others name it
		f.refused = status.Code == etcd.CodePermission || status.NoSpace()
	}
	e.drop()
	e.round.failed(e.c.Try, time.Now())
	return f
}
