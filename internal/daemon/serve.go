package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// serve runs a session for every node until ctx ends and all are done, and reloads
// the config when hangup says so.
func (d *Daemon) serve(ctx context.Context, hangup <-chan os.Signal) error {
	ctx, d.end = context.WithCancelCause(ctx)
	for _, c := range d.chains {
		c.dial(ctx, c.cfg.Nodes)
	}
	d.looked.Store(d.Config)
	go d.lookAtClusters(ctx)
	go d.checkClusters(ctx)
	tended := make(chan struct{})
	go func() { defer close(tended); d.tend(ctx, hangup) }()
	err := errors.Join(d.runServices(ctx), ended(ctx))
	if hung := unlessHung(ctx, drainTimeout, func() error { <-tended; return nil }); hung != nil {
		d.hangs = true
		return errors.Join(err, fmt.Errorf("a reload did not finish in time: %w", hung))
	}
	if d.busy = !d.drained(d.chains); d.busy {
		err = errors.Join(err, errors.New("a signature did not finish in time; the state holds its mark"))
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

// errHung says that something still waits for a disk or a file server that does not
// answer. Nothing ends such a wait but the end of the process.
var errHung = errors.New("a file system does not respond")

// unlessHung runs f, and returns errHung if ctx ended and f did not within patience.
func unlessHung(ctx context.Context, patience time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return errHung
	}
}
