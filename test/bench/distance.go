package main

import (
	"context"
	"fmt"
	"time"

	"privyseal/internal/etcd/etcdtest"
)

// distanceSamples are few: a swap takes several times the distance.
const distanceSamples = 100

var distances = []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond}

// distance measures what distance costs, one way: between all members, with the signer
// beside one of them; and from the signer to members that are beside each other.
func (b *bench) distance(ctx context.Context) ([]row, error) {
	var byLeader, byFollower samples // where all are beside each other
	rows, err := b.onEtcd(ctx, "away", etcdtest.Options{}, func(h *harness, c *etcdtest.Cluster) (rows []row) {
		leader, follower := c.Leader(h), c.Follower(h)
		byLeader, byFollower = h.marks(c, "near", c.Endpoints()[leader], c.Endpoints()[follower])
		for _, oneWay := range distances {
			what := fmt.Sprintf("signer %v from all members, a mark by the ", oneWay)
			l, f := h.marks(c, "far-"+oneWay.String(), c.Away(h, leader, oneWay), c.Away(h, follower, oneWay))
			rows = append(rows,
				beside(what+"leader, p50", l, 50, "no distance, 1 round trip", byLeader.plus(2*oneWay)),
				beside(what+"follower, p50", f, 50, "no distance, 1 round trip", byFollower.plus(2*oneWay)))
		}
		return rows
	})
	for _, oneWay := range distances {
		if err != nil {
			return nil, err
		}
		var more []row
		more, err = b.onEtcd(ctx, "apart-"+oneWay.String(), etcdtest.Options{Apart: oneWay}, func(h *harness, c *etcdtest.Cluster) []row {
			what := fmt.Sprintf("members %v apart, a mark by the ", oneWay)
			l, f := h.marks(c, "apart-"+oneWay.String(), c.Endpoints()[c.Leader(h)], c.Endpoints()[c.Follower(h)])
			return []row{
				beside(what+"leader, p50", l, 50, "no distance, 1 round trip", byLeader.plus(2*oneWay)),
				beside(what+"follower, p50", f, 50, "no distance, 2 round trips", byFollower.plus(4*oneWay)),
			}
		})
		rows = append(rows, more...)
	}
	return rows, err
}

// marks raises a mark by the leader and another one by a follower, by turns, and prints
// what a read takes, too.
func (h *harness) marks(c *etcdtest.Cluster, name, leader, follower string) (byLeader, byFollower samples) {
	l, f := h.newShared(c, name+"-leader", leader), h.newShared(c, name+"-follower", follower)
	defer l.store.Close()
	defer f.store.Close()
	readLeader, readFollower := h.newWire(c, leader), h.newWire(c, follower)
	var read, readFar samples
	h.must(byTurns(h.ctx, []func() error{
		batch(&byLeader, l.raise), batch(&byFollower, f.raise), batch(&read, readLeader.read), batch(&readFar, readFollower.read),
	}, distanceSamples/batchSize))
	fmt.Printf("%s, p50 and p99: a mark by the leader %s, by a follower %s; a read by the leader %s, by a follower %s\n",
		name, both(byLeader), both(byFollower), both(read), both(readFar))
	return byLeader, byFollower
}
