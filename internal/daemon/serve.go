package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/privval"
	"privyseal/internal/session"
)

// running is the session of one node.
type running struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when what was in flight is finished
}

// serve runs a session for every node until ctx ends and all are done, and reloads
// the config when hangup says so.
func (d *Daemon) serve(ctx context.Context, hangup <-chan os.Signal) error {
	ctx, d.end = context.WithCancelCause(ctx)
	for _, c := range d.chains {
		c.dial(ctx, c.cfg.Nodes)
	}
	tended := make(chan struct{})
	go func() { defer close(tended); d.tend(ctx, hangup) }()
	err := errors.Join(d.runServices(ctx), ended(ctx))
	if hung := unlessHung(ctx, drainTimeout, func() error { <-tended; return nil }); hung != nil {
		d.hangs = true
		return errors.Join(err, fmt.Errorf("a reload was still in work when its time was up: %w", hung))
	}
	if !d.drained(d.chains) {
		err = errors.Join(err, errors.New("a signature was still in work when its time was up; the state holds its mark"))
	}
	return err
}

// runServices runs the services until ctx ends and all are done.
func (d *Daemon) runServices(ctx context.Context) (failed error) {
	errs := make(chan error, len(d.services))
	for _, s := range d.services {
		go func() { errs <- s.Run(ctx) }()
	}
	<-ctx.Done()
	for range d.services {
		failed = errors.Join(failed, <-errs)
	}
	return failed
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
