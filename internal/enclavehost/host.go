// Package enclavehost is what runs outside of an enclave, whatever the TEE, in the process
// of `privyseal start`: it has the enclave launched or finds it running, keeps its
// state, connects it to its nodes and to what its policy names (KMS, a database), gives it
// credentials to boot with, and hands on what it reports. How an enclave of one kind is
// launched and reached, its [Launcher] knows.
//
// It holds no key and signs nothing. The enclave does not trust it; what is here
// decides whether the validator signs, never what. From the enclave it takes
// bytes within limits: no port waits for another, and what the enclave says about
// itself is not a proof of anything.
//
// The enclave outlives this process: without a host to acknowledge its state it
// refuses to sign, and the next process finds it and boots it again.
package enclavehost

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/oplog"
	"privyseal/internal/watermark"
)

// pace is how long things may take.
type pace struct {
	poll     time.Duration // between two questions to a healthy enclave
	redial   time.Duration // between two attempts to reach it
	look     time.Duration // between two looks whether a silent one still runs
	silence  time.Duration // after which one that runs but does not answer is ended
	patience time.Duration // for an answer; above the enclave's own limit
	stable   time.Duration // life after which a restart comes at once
	first    time.Duration // pause before the second restart or boot, twice as long each time from then on
	longest  time.Duration // such pause
	life     time.Duration // of a connection to KMS
}

var usual = pace{
	poll: 2 * time.Second, redial: 50 * time.Millisecond, look: 2 * time.Second, silence: 3 * time.Minute, patience: 150 * time.Second,
	stable: time.Minute, first: time.Second, longest: time.Minute, life: 5 * time.Minute,
}

// Host serves one enclave after the other.
type Host struct {
	Config
	pace
	chains map[string]*chain
	states map[watermark.ID]*hostlink.Keeper
	// poke asks for a look at the enclave now: a connection of it has ended.
	poke  chan struct{}
	flood *oplog.Flood
	once  *deduper
	// ours is where an enclave answers that is ours, nil while there is none.
	ours atomic.Pointer[Link]
}

// chain is a Chain with the status that was reported last.
type chain struct {
	Chain
	nodes    map[string]*Node
	reported string
}

func newHost(c Config, p pace) (*Host, error) {
	if len(c.Chains) == 0 {
		return nil, errors.New("an enclave without chains")
	}
	h := &Host{
		Config: c, pace: p, chains: map[string]*chain{}, states: map[watermark.ID]*hostlink.Keeper{},
		poke: make(chan struct{}, 1), flood: oplog.NewFlood(floodBurst, floodRate, time.Second), once: newDeduper(),
	}
	for _, cc := range c.Chains {
		if h.chains[cc.ID.ChainID] != nil {
			return nil, fmt.Errorf("duplicate chain %q", cc.ID.ChainID)
		}
		ch := &chain{Chain: cc, nodes: map[string]*Node{}}
		for i := range cc.Nodes {
			ch.nodes[cc.Nodes[i].Name] = &cc.Nodes[i]
		}
		h.chains[cc.ID.ChainID] = ch
		state := cc.ID
		if cc.StateID != (watermark.ID{}) {
			state = cc.StateID
		}
		h.states[state] = &hostlink.Keeper{ID: state, Store: cc.Store, Acked: cc.Observer.Acked}
	}
	return h, nil
}

// report reports the status of a chain where it differs from the last one.
func (h *Host) report(c *chain, keyType string, public []byte, problem error) {
	now := keyType + " " + hex.EncodeToString(public)
	if problem != nil {
		now = problem.Error()
	}
	if now == c.reported {
		return
	}
	c.reported = now
	c.Observer.Status(keyType, public, problem)
}

// backoff is a pause that doubles: none, first, twice that, up to longest.
type backoff struct{ first, longest, last time.Duration }

func (b *backoff) next() time.Duration {
	d := b.last
	b.last = min(max(b.first, 2*b.last), b.longest)
	return d
}

// wait waits for the next pause, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(b.next()):
	}
}

func (b *backoff) reset() { b.last = 0 }

// lookNow asks for a look at the enclave: a connection that it keeps open has
// ended.
func (h *Host) lookNow() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}
