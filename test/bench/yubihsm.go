package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
)

const (
	hsmTime     = 105 * time.Millisecond // what a device takes for a signature
	hsmAuth     = 4                      // the authentication key, and its password
	hsmPassword = "four"

	hsmHeights  = 120 // each a prevote and a precommit
	hsmChains   = 8   // on one device
	hsmRounds   = 20  // of them
	failovers   = 3   // of each kind
	failoverMax = 1200 * time.Millisecond
	lostMax     = 1
)

// slow measures votes that a YubiHSM signs, or rather its simulator, in the time of a
// device: one chain, several chains, and two devices of which one fails.
func (b *bench) slow(ctx context.Context) (rows []row, err error) {
	for _, measure := range []func(context.Context) ([]row, error){b.slowVotes, b.queue, b.failover} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// devices are simulated devices with the same keys.
type devices []*yubihsmtest.Device

// newDevices returns so many devices, with so many keys each, whose ids are 1, 2, …
func newDevices(count, keys int, signTime time.Duration) (ds devices, err error) {
	for range count {
		d, err := yubihsmtest.Launch("127.0.0.1:0", yubihsmtest.Options{RealTime: true, SignTime: signTime})
		if err != nil {
			ds.stop()
			return nil, err
		}
		ds = append(ds, d)
		objects := []yubihsmtest.Object{{Type: yubihsmtest.AuthenticationKey, ID: hsmAuth, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.CanSignEdDSA}}
		secrets := [][]byte{[]byte(hsmPassword)}
		for id := range keys {
			objects = append(objects, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: uint16(id + 1), Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA})
			secrets = append(secrets, bytes.Repeat([]byte{byte(id + 1)}, 32))
		}
		for i, o := range objects {
			if err := d.Put(o, secrets[i]); err != nil {
				ds.stop()
				return nil, err
			}
		}
	}
	return ds, nil
}

func (ds devices) stop() {
	for _, d := range ds {
		d.Stop()
	}
}

// slowHome makes a home folder for chains that have the keys 1, 2, … of the devices.
func (b *bench) slowHome(ctx context.Context, name string, ds devices, chains ...string) (*home, error) {
	h := &home{b: b, dir: b.path(name)}
	password := b.path(name + ".password")
	if err := os.WriteFile(password, []byte(hsmPassword), 0o600); err != nil {
		return nil, err
	}
	set := []string{"--yubihsm-auth-key", fmt.Sprint(hsmAuth), "--yubihsm-password-file", password}
	for _, d := range ds {
		set = append(set, "--yubihsm-device", d.URL())
	}
	for i, chain := range chains {
		args := []string{"--provider", "yubihsm", "--yubihsm-take", "--fresh-state", "--yes", "--yubihsm-key-id", fmt.Sprint(i + 1)}
		if i == 0 {
			args = append(args, set...)
		}
		if err := h.init(ctx, chain, args...); err != nil {
			return nil, err
		}
	}
	return h, h.moveMetrics()
}

// served is a signer that runs, and the nodes that it serves.
type served struct {
	p     *process
	nodes []*node
}

// serve starts the signer of a home for nodes of the chains.
func (b *bench) serve(ctx context.Context, h *home, chains ...string) (*served, error) {
	nodes, err := b.newNodes(chains)
	if err != nil {
		return nil, err
	}
	return serving(nodes, func() (*process, error) { return h.start(ctx) })
}

// serving starts a signer for nodes.
func serving(nodes []*node, start func() (*process, error)) (s *served, err error) {
	s = &served{nodes: nodes}
	if s.p, err = start(); err != nil {
		return nil, err
	}
	for _, n := range s.nodes {
		if err = n.accept(); err == nil {
			err = n.greet()
		}
		if err != nil {
			err = s.p.failed(err)
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *served) close() {
	s.p.kill()
	for _, n := range s.nodes {
		n.close()
	}
}

// slowVotes compares votes of one chain with what they cannot take less than: the time of
// the device, a durable write, and a round trip to the signer.
func (b *bench) slowVotes(ctx context.Context) ([]row, error) {
	ds, err := newDevices(1, 1, hsmTime)
	if err != nil {
		return nil, err
	}
	defer ds.stop()
	h, err := b.slowHome(ctx, "slow", ds, "slow")
	if err != nil {
		return nil, err
	}
	s, err := b.serve(ctx, h, "slow")
	if err != nil {
		return nil, err
	}
	defer s.close()
	raw, err := newRawFile(filepath.Join(h.dir, "state", "slow.mark"))
	if err != nil {
		return nil, err
	}
	defer raw.f.Close()
	n := s.nodes[0]
	var votes, least samples
	for range hsmHeights {
		for range 2 {
			if err := n.timedVote(&votes); err != nil {
				return nil, s.p.failed(err)
			}
			err := least.timed(func() error {
				if err := raw.write(); err != nil {
					return err
				}
				return n.ping()
			})
			if err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	prevotes, precommits := votes.halves()
	one, two := least.plus(hsmTime), least.plus(2*hsmTime)
	const reference = "device, write, ping"
	return []row{
		atMost(1.02, "YubiHSM, request to reply: prevote, p50", prevotes, 50, reference, one),
		atMost(1.02, "the same, p99", prevotes, 99, reference, one),
		atMost(1.02, "YubiHSM, request to reply: precommit and extension, p50", precommits, 50, "2 × "+reference, two),
		atMost(1.02, "the same, p99", precommits, 99, "2 × "+reference, two),
	}, s.p.stop()
}

// queue measures chains that all have their votes signed by one device, each as fast as it
// is answered.
func (b *bench) queue(ctx context.Context) ([]row, error) {
	ds, err := newDevices(1, hsmChains, hsmTime)
	if err != nil {
		return nil, err
	}
	defer ds.stop()
	var chains []string
	for i := range hsmChains {
		chains = append(chains, fmt.Sprintf("queue-%d", i))
	}
	h, err := b.slowHome(ctx, "queue", ds, chains...)
	if err != nil {
		return nil, err
	}
	s, err := b.serve(ctx, h, chains...)
	if err != nil {
		return nil, err
	}
	defer s.close()
	took, err := atOnce(ctx, s.nodes)
	if err != nil {
		return nil, s.p.failed(err)
	}
	what := fmt.Sprintf("YubiHSM, the queue of %d chains, p99", hsmChains)
	return []row{atMost(1.2, what, took, 99, "their p50", samples{took.p(50)})}, s.p.stop()
}

// atOnce has all nodes ask for prevotes, the next one as soon as one is answered.
func atOnce(ctx context.Context, nodes []*node) (all samples, err error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() {
			var first, took samples
			failed := n.timedPrevote(&first) // the queue is not full yet
			for i := 0; i < hsmRounds && failed == nil && ctx.Err() == nil; i++ {
				failed = n.timedPrevote(&took)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err == nil {
				err = failed
			}
		})
	}
	group.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return all, err
}

// failover measures the votes within which the first of two devices fails.
func (b *bench) failover(ctx context.Context) ([]row, error) {
	ds, err := newDevices(2, 1, hsmTime)
	if err != nil {
		return nil, err
	}
	defer ds.stop()
	h, err := b.slowHome(ctx, "failover", ds, "failover")
	if err != nil {
		return nil, err
	}
	s, err := b.serve(ctx, h, "failover")
	if err != nil {
		return nil, err
	}
	defer s.close()
	var rows []row
	for _, f := range []struct {
		what string
		harm func(*yubihsmtest.Device)
		mend func(*yubihsmtest.Device) error
	}{
		{"a connector is killed", (*yubihsmtest.Device).StopConnector, (*yubihsmtest.Device).Listen},
		{"a device hangs", func(d *yubihsmtest.Device) { d.Always(yubihsmtest.Any, d.Hang()) }, func(d *yubihsmtest.Device) error { d.Heal(); return nil }},
	} {
		var took samples
		most := 0
		for range failovers {
			for range 2 { // a prevote, a precommit with extension
				if err := s.inUse(ctx, ds[0]); err != nil {
					return nil, s.p.failed(err)
				}
				f.harm(ds[0])
				lost, err := s.nodes[0].insist(&took)
				if err != nil {
					return nil, s.p.failed(err)
				}
				most = max(most, lost)
				if err := f.mend(ds[0]); err != nil {
					return nil, err
				}
			}
		}
		rows = append(rows, row{
			what: "YubiHSM, " + f.what + ", the other signs: slowest", measured: fmt.Sprintf("%.0f ms", ms(took.p(100))), reference: fmt.Sprintf("at most %d lost", most),
			ratio: "-", bound: fmt.Sprintf("≤ %d ms, %d lost", failoverMax.Milliseconds(), lostMax), ok: took.p(100) <= failoverMax && most <= lostMax,
		})
	}
	return rows, s.p.stop()
}

// inUse has votes signed until a device signs them, at a prevote next.
func (s *served) inUse(ctx context.Context, d *yubihsmtest.Device) error {
	before := d.Count(yubihsmtest.SignEdDSA)
	for end := time.Now().Add(20 * time.Second); d.Count(yubihsmtest.SignEdDSA) == before; {
		if time.Now().After(end) {
			return fmt.Errorf("the device at %s is mended, and does not sign", d.URL())
		}
		for range 2 {
			if err := s.nodes[0].vote(); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
