package daemon

import (
	"context"
	"maps"
	"slices"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/privval"
	"privyseal/internal/session"
)

// drainTimeout bounds the wait for what is in flight at the end: an answer and
// its way to the node.
// (Tests shorten it.)
var drainTimeout = session.AnswerTimeout + time.Second

// dial starts the sessions of nodes, if the chain can sign.
func (c *chain) dial(ctx context.Context, nodes []config.Node) {
	if c.signer == nil {
		return
	}
	c.Run(ctx)
	for _, n := range nodes {
		addr, err := session.ParseAddr(n.Addr)
		if err != nil {
			c.changed[n.Name](session.Dialling, err) // the config was checked, so it cannot be
			continue
		}
		s := &session.Session{
			Addr: addr, PeerUID: n.PeerUID, Identity: c.identity, Idle: c.cfg.Timeout.Duration,
			Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				return c.signer.Handle(ctx, n.Name, req)
			},
			Changed: c.changed[n.Name],
		}
		ctx, cancel := context.WithCancel(ctx)
		r := &running{cancel: cancel, done: make(chan struct{})}
		c.sessions[n.Name] = r
		go func() {
			defer close(r.done)
			s.Run(ctx)
		}()
	}
}

// drained waits for what is in flight for chains whose sessions were cancelled, and
// reports whether it ended in time.
func (d *Daemon) drained(chains []*chain) bool {
	timeout := time.After(drainTimeout)
	for _, c := range chains {
		for _, r := range slices.AppendSeq(slices.Clone(c.leaving), maps.Values(c.sessions)) {
			select {
			case <-r.done:
			case <-timeout:
				return false
			}
		}
	}
	return true
}
