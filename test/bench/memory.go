package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

const (
	manyChains  = 20
	votesEach   = 200 // of each of many chains
	fewVotes    = 10_000
	manyVotes   = 100_000
	readings    = 15
	between     = 400  // votes of all chains together
	residentMax = 30.0 // MiB
	growthMax   = 1.0  // MiB
)

// memory measures what stays resident with many chains, and what a long run
// adds.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	many, err := b.resident(ctx, manyChains, votesEach)
	if err != nil {
		return nil, err
	}
	long, err := b.resident(ctx, 1, fewVotes, manyVotes)
	if err != nil {
		return nil, err
	}
	grown := long[1] - long[0]
	return []row{{
		what:      fmt.Sprintf("resident with %d chains", manyChains),
		measured:  fmt.Sprintf("%.1f MiB", many[0]),
		reference: "-", ratio: "-", bound: fmt.Sprintf("< %.0f MiB", residentMax),
		ok: many[0] < residentMax,
	}, {
		what:      fmt.Sprintf("resident after %d signatures", manyVotes),
		measured:  fmt.Sprintf("%.1f MiB", long[1]),
		reference: fmt.Sprintf("after %d %.1f MiB", fewVotes, long[0]),
		ratio:     fmt.Sprintf("%+.1f MiB", grown),
		bound:     fmt.Sprintf("≤ +%.0f MiB", growthMax),
		ok:        grown <= growthMax,
	}}, nil
}

// resident runs one signer for so many chains and returns its resident MiB each
// time that every chain has had votes signed up to one of the counts.
func (b *bench) resident(ctx context.Context, chains int, counts ...int) (mib []float64, err error) {
	var names []string
	for i := range chains {
		names = append(names, fmt.Sprintf("memory-%d-%d", chains, i))
	}
	h, err := b.newHome(ctx, fmt.Sprintf("memory-%d", chains), names...)
	if err != nil {
		return nil, err
	}
	nodes, err := b.newNodes(names)
	if err != nil {
		return nil, err
	}
	p, err := h.start(ctx)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	for _, n := range nodes {
		defer n.close()
		if err := n.accept(); err != nil {
			return nil, p.failed(err)
		}
		if err := n.greet(); err != nil {
			return nil, err
		}
	}
	done := 0
	for _, count := range counts {
		if err := voteAll(ctx, nodes, count-done); err != nil {
			return nil, err
		}
		done = count
		now, err := h.settled(ctx, p, nodes)
		if err != nil {
			return nil, err
		}
		done += readings * (between / chains)
		mib = append(mib, now)
	}
	return mib, p.stop()
}

// settled returns the median of readings over some cycles of the garbage
// collector, which move what is resident up and down by more than half a MiB.
func (h *home) settled(ctx context.Context, p *process, nodes []*node) (float64, error) {
	var mib figures
	for range readings {
		if err := voteAll(ctx, nodes, between/len(nodes)); err != nil {
			return 0, err
		}
		if err := h.scrape(ctx); err != nil {
			return 0, err
		}
		now, err := p.residentMiB()
		if err != nil {
			return 0, err
		}
		mib = append(mib, now)
	}
	return mib.median(), nil
}

func (b *bench) newNodes(names []string) (nodes []*node, err error) {
	for _, name := range names {
		n, err := b.newNode(name)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// voteAll has every node get count votes signed.
func voteAll(ctx context.Context, nodes []*node, count int) error {
	for range count {
		for _, n := range nodes {
			if err := n.vote(); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// scrape reads the metrics, as a watched signer's are.
func (h *home) scrape(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.http+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
