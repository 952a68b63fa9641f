package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	cadence   = time.Second // in which each chain has two votes signed
	manyRound = 20          // cadences with many chains
	soloRound = 90          // with one, which has fewer votes in each
	crowd     = 500         // chains in one config
	readyMax  = 150 * time.Millisecond
	besideMax = 100 * time.Millisecond
)

// load is what one signer did for so many chains.
type load struct {
	chains int
	took   samples
	mib    float64
	cpu    time.Duration // for 1,000 signatures
}

// many measures one process for 1, 50 and 200 chains, each with two votes a second.
func (b *bench) many(ctx context.Context) ([]row, error) {
	var loads []load
	for _, chains := range []int{1, 50, 200} {
		rounds := manyRound
		if chains == 1 {
			rounds = soloRound
		}
		l, err := b.loaded(ctx, chains, rounds)
		if err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	alone := loads[0]
	var rows []row
	for _, l := range loads[1:] {
		rows = append(rows, atMost(2, fmt.Sprintf("one chain of %d, two votes a second each, p99", l.chains), l.took, 99, "alone", alone.took))
	}
	for _, l := range loads[1:] {
		each := (l.mib - alone.mib) / float64(l.chains-1)
		rows = append(rows, row{
			what: fmt.Sprintf("resident with %d chains", l.chains), measured: fmt.Sprintf("%.1f MiB", l.mib),
			reference: fmt.Sprintf("with 1 %.1f MiB", alone.mib), ratio: fmt.Sprintf("%.2f MiB a chain", each), bound: "-", ok: true,
		})
	}
	for _, l := range loads[1:] {
		ratio := float64(l.cpu) / float64(alone.cpu)
		rows = append(rows, row{
			what: fmt.Sprintf("CPU of 1,000 signatures, %d chains", l.chains), measured: fmt.Sprintf("%.0f ms", ms(l.cpu)),
			reference: fmt.Sprintf("1 chain %.0f ms", ms(alone.cpu)), ratio: fmt.Sprintf("%.2f", ratio), bound: "≤ 1.2", ok: ratio <= 1.2,
		})
	}
	return rows, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// loaded runs a signer for so many chains, whose nodes ask for two votes in each of
// so many seconds, each at a moment of its own.
func (b *bench) loaded(ctx context.Context, chains, rounds int) (load, error) {
	var names []string
	for i := range chains {
		names = append(names, fmt.Sprintf("many-%d-%d", chains, i))
	}
	h, err := b.newHome(ctx, fmt.Sprintf("many-%d", chains), names...)
	if err != nil {
		return load{}, err
	}
	nodes, err := b.newNodes(names)
	if err != nil {
		return load{}, err
	}
	p, err := h.start(ctx)
	if err != nil {
		return load{}, err
	}
	defer p.kill()
	for _, n := range nodes {
		defer n.close()
		if err := errors.Join(n.accept(), n.greet(), n.vote(), n.vote()); err != nil {
			return load{}, p.failed(err)
		}
	}
	before, err := p.cpu()
	if err != nil {
		return load{}, err
	}
	l := load{chains: chains}
	if l.took, err = atCadence(ctx, nodes, rounds); err != nil {
		return load{}, p.failed(err)
	}
	after, err := p.cpu()
	if err != nil {
		return load{}, err
	}
	l.cpu = (after - before) * 1000 / time.Duration(len(l.took))
	if l.mib, err = p.residentMiB(); err != nil {
		return load{}, err
	}
	return l, p.stop()
}

// atCadence has each node ask for two votes in each of so many seconds.
func atCadence(ctx context.Context, nodes []*node, rounds int) (all samples, err error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() {
			var took samples
			wait := time.NewTimer(rand.N(cadence))
			defer wait.Stop()
			var failed error
			for range rounds {
				select {
				case <-ctx.Done():
					failed = ctx.Err()
				case <-wait.C:
					wait.Reset(cadence)
					failed = errors.Join(n.timedVote(&took), n.timedVote(&took))
				}
				if failed != nil {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, err = append(all, took...), errors.Join(err, failed)
		})
	}
	group.Wait()
	return all, err
}

// cpu returns the processor time that the program has used, by the kernel's count of
// hundredths of a second.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// crowded measures a config with 500 chains: from the exec to the moment at which
// systemd hears that all are open, and one more `init` beside them.
func (b *bench) crowded(ctx context.Context) ([]row, error) {
	var names []string
	for i := range crowd {
		names = append(names, fmt.Sprintf("crowd-%d", i))
	}
	h, err := b.newHome(ctx, "crowd", names...)
	if err != nil {
		return nil, err
	}
	var ready, beside samples
	for i := range 7 {
		if err := h.becomesReady(ctx, &ready); err != nil {
			return nil, err
		}
		err := beside.timed(func() error { return h.init(ctx, fmt.Sprintf("late-%d", i)) })
		if err != nil {
			return nil, err
		}
	}
	within := func(what string, took samples, bound time.Duration) row {
		return row{
			what: what, measured: fmt.Sprintf("%.0f ms", ms(took.p(50))), reference: "-", ratio: "-",
			bound: fmt.Sprintf("≤ %d ms", bound.Milliseconds()), ok: took.p(50) <= bound,
		}
	}
	return []row{
		within(fmt.Sprintf("start to ready, %d chains, p50", crowd), ready, readyMax),
		within(fmt.Sprintf("init beside %d chains, p50", crowd), beside, besideMax),
	}, nil
}

// becomesReady starts the signer, waits until it says to systemd that it is ready, and
// stops it.
func (h *home) becomesReady(ctx context.Context, took *samples) error {
	socket := h.b.socket("notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer os.Remove(socket)
	defer l.Close()
	var p *process
	err = took.timed(func() (err error) {
		if p, err = start(ctx, "env", "NOTIFY_SOCKET="+socket, h.b.privyseal, "start", "--home", h.dir); err != nil {
			return err
		}
		l.SetReadDeadline(time.Now().Add(10 * time.Second))
		for buf := make([]byte, 4096); ; {
			n, err := l.Read(buf)
			if err != nil || slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
				return err
			}
		}
	})
	if p == nil {
		return err
	}
	defer p.kill()
	if err != nil {
		return p.failed(fmt.Errorf("%s is not ready: %w", filepath.Base(h.dir), err))
	}
	return p.stop()
}
