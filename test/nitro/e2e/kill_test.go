package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	noderig "privyseal/test/e2e/rig"
	"privyseal/test/e2e/story"
	"privyseal/test/enclave"
	"privyseal/test/nitro/e2e/world"
	"privyseal/test/nitro/rig"
)

// kills is how many there are, and seed says in which order.
const (
	kills = 12
	seed  = 3
)

// Everything is killed with SIGKILL, in any order, while two chains make blocks:
// the host process, the enclave, a node, the proxy to KMS. What systemd would
// start again is started again; nobody does anything else, and each time both
// chains go on.
func TestKillAnyOrder(t *testing.T) {
	ctx := story.Within(t, 4*time.Minute)
	w := newWorld(t)
	im := testImage(ctx, t, w)
	s, chains, err := w.InitChains(ctx, w.InitFlags(im), "unix", "tcp")
	need(t, err)
	host := supervise(t, func() (*noderig.Process, error) {
		err := s.Start()
		return s.Process, err
	})
	nodes := map[*enclave.Chain]*service{}
	for _, c := range chains {
		nodes[c] = supervise(t, func() (*noderig.Process, error) {
			// As the node's unit in doc/nitro.md does.
			if err := os.Remove(strings.TrimPrefix(c.Addr, "unix://")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			err := c.Node.Start(c.Addr)
			return c.Node.Process, err
		})
	}
	await(ctx, t, chains, 3)

	victims := []victim{
		{"the host process", func() { host.kill() }},
		{"the enclave", func() { killEnclave(ctx, t, w) }},
		{"a node", func() { nodes[chains[0]].kill() }},
		{"the other node", func() { nodes[chains[1]].kill() }},
		{"the proxy beside the host process", func() { killProxy(ctx, t, w, s, host) }},
		{"the way to KMS, and the enclave", func() { killWay(ctx, t, w, s) }},
		{"host process and enclave", func() {
			host.kill()
			killEnclave(ctx, t, w)
		}},
	}
	// Each once, and then whatever comes.
	order := rand.New(rand.NewPCG(seed, seed))
	order.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	for len(victims) < kills {
		victims = append(victims, victims[order.IntN(7)])
	}
	last := map[string]uint64{}
	for _, v := range victims {
		began := time.Now()
		v.kill()
		await(ctx, t, chains, 3)
		t.Logf("killed %s: both chains went on after %.1f s", v.name, time.Since(began).Seconds())
		for _, c := range chains {
			rises(ctx, t, w, im, s, c, last)
		}
	}
	for _, c := range chains {
		h, err := c.Node.Height(ctx)
		check(t, err)
		check(t, c.VerifyCommits(ctx, 1, h-1))
		t.Logf("%s: %d blocks", c.ID, h)
	}
	inOrder(t, filepath.Join(s.Home, "privyseal.log"))
}

type victim struct {
	name string
	kill func()
}

// service is a program that is started again whenever it ends, as systemd does.
type service struct {
	mu      sync.Mutex
	changed *sync.Cond
	p       *noderig.Process
	held    bool // not to be started now
	stopped bool // nor ever
}

const restartPause = 100 * time.Millisecond // as RestartSec

func supervise(t *testing.T, start func() (*noderig.Process, error)) *service {
	t.Helper()
	s := &service{}
	s.changed = sync.NewCond(&s.mu)
	var err error
	s.p, err = start()
	check(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.run(start); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		s.mu.Lock()
		s.stopped = true
		p := s.p
		s.changed.Broadcast()
		s.mu.Unlock()
		p.Stop(time.Minute)
		running.Wait()
		story.Tail(t, p)
	})
	return s
}

// run waits for the end of each process and starts the next.
func (s *service) run(start func() (*noderig.Process, error)) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		p := s.p
		s.mu.Unlock()
		<-p.Done()
		time.Sleep(restartPause)
		s.mu.Lock()
		for s.held && !s.stopped {
			s.changed.Wait()
		}
		if s.stopped {
			return nil
		}
		if s.p, err = start(); err != nil {
			s.p = p
			return err
		}
	}
}

// kill ends the program at once.
func (s *service) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p.Signal(syscall.SIGKILL)
	<-s.p.Done()
}

// hold keeps it from being started, or lets it be again.
func (s *service) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	s.changed.Broadcast()
}

// killEnclave returns when it is gone.
func killEnclave(ctx context.Context, t *testing.T, w *world.World) {
	t.Helper()
	e := running(t, w)
	check(t, w.Instance.Kill(e))
	for rig.Alive(e.ProcessID) {
		wait(ctx, t)
	}
}

// killProxy has `nitro proxy` take the place of the host process, and kills it:
// the next host process finds its socket.
func killProxy(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer, host *service) {
	t.Helper()
	host.hold(true)
	defer host.hold(false)
	host.kill()
	log := filepath.Join(w.Dir, "proxy.log")
	check(t, os.RemoveAll(log))
	p, err := noderig.StartProcess("privyseal nitro proxy", log, w.Privyseal, "nitro", "proxy", "--home", s.Home)
	check(t, err)
	following, stop := context.WithCancel(ctx)
	up := false
	p.Follow(following, func(line []byte) {
		up = up || bytes.Contains(line, []byte("connecting"))
		if up {
			stop()
		}
	})
	stop()
	if !up {
		t.Errorf("privyseal nitro proxy does not serve:\n%s", p.Tail(10))
	}
	p.Signal(syscall.SIGKILL)
	<-p.Done()
}

// killWay cuts the connection to KMS and ends the enclave. It repairs the connection
// when the operator can read that the next enclave cannot reach KMS.
func killWay(ctx context.Context, t *testing.T, w *world.World, s *noderig.Signer) {
	t.Helper()
	w.Relay.Cut()
	killEnclave(ctx, t, w)
	// The next one has asked, and was answered.
	for {
		out, err := w.Run(ctx, "status", "--home", s.Home)
		if err == nil && strings.Contains(out, "KMS") {
			break
		}
		wait(ctx, t)
	}
	check(t, w.Relay.Mend())
}

// await waits until each chain has made more blocks, whatever is started again
// meanwhile.
func await(ctx context.Context, t *testing.T, chains []*enclave.Chain, more int64) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("no more blocks within ten minutes"))
	defer cancel()
	from, done := map[*enclave.Chain]int64{}, 0
	for done < len(chains) {
		wait(ctx, t)
		done = 0
		for _, c := range chains {
			at, err := c.Node.Height(ctx)
			switch {
			case err != nil: // its node is not there yet
			case from[c] == 0:
				from[c] = at
			case at >= from[c]+more:
				done++
			}
		}
	}
}

// wait is a pause between two looks.
func wait(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal(context.Cause(ctx))
	case <-time.After(50 * time.Millisecond):
	}
}

var sequence = regexp.MustCompile(`(?m)^sequence +(\d+)$`)

// rises has the enclave attest: its record is above that of the last time.
func rises(ctx context.Context, t *testing.T, w *world.World, im *world.Image, s *noderig.Signer, c *enclave.Chain, last map[string]uint64) {
	t.Helper()
	doc, err := w.Run(ctx, "nitro", "attest", "--home", s.Home, "--chain-id", c.ID)
	check(t, err)
	path := filepath.Join(w.Dir, "document")
	check(t, os.WriteFile(path, []byte(doc), 0o600))
	out, err := w.Run(ctx, "verify", path, "--eif", im.Path, "--test-root", w.RootPath(), "--chain-id", c.ID)
	check(t, err)
	m := sequence.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no sequence in\n%s", out)
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	check(t, err)
	if n <= last[c.ID] {
		t.Errorf("%s: record %d after record %d", c.ID, n, last[c.ID])
	}
	last[c.ID] = n
}

// inOrder checks that nothing was signed below what was signed before, as the
// log of all host processes shows it.
func inOrder(t *testing.T, path string) {
	t.Helper()
	log, err := os.ReadFile(path)
	check(t, err)
	steps := map[string]int64{"proposal": 1, "prevote": 2, "precommit": 3}
	last := map[string][3]int64{}
	n := 0
	for line := range bytes.Lines(log) {
		e, ok := noderig.ParseSigned(line)
		if !ok {
			continue
		}
		n++
		now, before := [3]int64{e.Height, int64(e.Round), steps[e.Kind]}, last[e.Chain]
		for i := range now {
			if now[i] != before[i] {
				if now[i] < before[i] {
					t.Errorf("%s signed %v after %v", e.Chain, now, before)
				}
				break
			}
		}
		last[e.Chain] = now
	}
	if n == 0 {
		t.Error("the log tells of no signature")
	}
}
