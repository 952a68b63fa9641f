package main

import (
	"context"
	"fmt"
	"time"
)

const (
	starts   = 20
	startMax = 100 * time.Millisecond
)

// start measures the time from the exec of `privyseal start` to the first
// answered sign request of a node that is listening already.
func (b *bench) start(ctx context.Context) ([]row, error) {
	h, err := b.newHome(ctx, "start", "start")
	if err != nil {
		return nil, err
	}
	n, err := b.newNode("start")
	if err != nil {
		return nil, err
	}
	defer n.close()
	var took samples
	for range starts {
		if err := n.startOnce(ctx, h, &took); err != nil {
			return nil, err
		}
	}
	return []row{{
		what:      "start to first signature, p50",
		measured:  fmt.Sprintf("%.1f ms", float64(took.p(50))/float64(time.Millisecond)),
		reference: "-", ratio: "-", bound: fmt.Sprintf("≤ %d ms", startMax.Milliseconds()),
		ok: took.p(50) <= startMax,
	}}, nil
}

// startOnce starts the signer for the next height: a step of one, so that
// nothing is skipped after the load of the state.
func (n *node) startOnce(ctx context.Context, h *home, took *samples) error {
	req := n.next()
	n.next()
	var p *process
	err := took.timed(func() (err error) {
		if p, err = h.start(ctx); err != nil {
			return err
		}
		if err = n.accept(); err == nil {
			_, err = n.call(req)
		}
		return err
	})
	if p == nil {
		return err
	}
	defer p.kill()
	if err != nil {
		return p.failed(err)
	}
	defer n.conn.Close()
	return p.stop()
}
