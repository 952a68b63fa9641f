package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
)

const (
	gapTimes  = 5
	gapBeat   = 5 * time.Millisecond
	gapBefore = 40                     // successes before something happens
	gapAfter  = 100                    // and after it
	election  = 500 * time.Millisecond // of the clusters of etcdtest
)

// gaps measures for how long nothing is written while a member of etcd fails: a mark is
// raised every 5 ms, by the member that is named first.
func (b *bench) gaps(ctx context.Context) ([]row, error) {
	return b.onEtcd(ctx, "gaps", etcdtest.Options{}, func(h *harness, c *etcdtest.Cluster) (rows []row) {
		kill := func(i int) (mend func()) {
			c.Kill(i)
			return func() { c.Restart(h, i) }
		}
		hang := func(i int) (mend func()) {
			c.Pause(h, i)
			return func() { c.Continue(h, i) }
		}
		newLeader, tries := 2*election+2*etcdstore.DefaultTry, 0
		for n, f := range []struct {
			what string
			by   func() int // the member that is used
			harm func() int // the one that fails
			how  func(int) func()
			most time.Duration
		}{
			{"the leader is killed, used", h.leader(c), h.leader(c), kill, newLeader},
			{"the leader is killed, a follower used", h.follower(c), h.leader(c), kill, newLeader},
			{"the leader hangs, used", h.leader(c), h.leader(c), hang, newLeader},
			{"the leader hangs, a follower used", h.follower(c), h.leader(c), hang, newLeader},
			{"a follower is killed, used", h.follower(c), h.follower(c), kill, 100 * time.Millisecond},
			{"a follower hangs, used", h.follower(c), h.follower(c), hang, etcdstore.DefaultTry + 50*time.Millisecond},
		} {
			var took samples
			for len(took) < gapTimes {
				leader, used := c.Leader(h), f.by()
				m := h.newShared(c, fmt.Sprintf("gap-%d-%d", n, tries), from(c, used)...)
				if tries++; c.Leader(h) == leader { // else there was an election meanwhile
					took = append(took, h.gap(m, f.harm(), f.how))
				}
				m.store.Close()
				h.must(ctx.Err())
			}
			fmt.Printf("etcd, %s: nothing is written for %v\n", f.what, took)
			rows = append(rows, within("etcd, "+f.what+": longest gap of 5", took.p(100), f.most))
			rows[len(rows)-1].reference = "median " + micros(took.p(50))
		}
		return rows
	})
}

func (h *harness) leader(c *etcdtest.Cluster) func() int { return func() int { return c.Leader(h) } }

func (h *harness) follower(c *etcdtest.Cluster) func() int {
	return func() int { return c.Follower(h) }
}

// gap returns the longest time between two successes, from the one before a member fails.
func (h *harness) gap(m *shared, member int, how func(int) func()) (longest time.Duration) {
	var mend func()
	last := time.Now()
	failed := make(chan struct{})
	for n := 0; n < gapBefore+gapAfter; n++ {
		if n == gapBefore {
			go func() {
				defer close(failed)
				mend = how(member)
			}()
		}
		h.must(m.insist())
		now := time.Now()
		if n >= gapBefore {
			longest = max(longest, now.Sub(last))
		}
		last = now
		time.Sleep(gapBeat - now.Sub(now.Truncate(gapBeat)))
	}
	<-failed
	mend()
	return longest
}

// insist raises the mark, as a signer would that is asked again.
func (m *shared) insist() error {
	for start := time.Now(); ; {
		err := m.raise()
		if err == nil || time.Since(start) > 20*time.Second {
			return err
		}
		if err := m.load(); err != nil && time.Since(start) > 20*time.Second {
			return errors.Join(errors.New("cannot load"), err)
		}
	}
}
