package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"privyseal/internal/filestore"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
	noderig "privyseal/test/e2e/rig"
	"privyseal/test/nitro/rig"
)

const (
	batchSize = 20
	batches   = 60
	echoPort  = 7000 // of test/nitro/probe
	echoCID   = 17
)

// latency compares a signature through host and vsock with its parts. Means, for
// the clock of a guest can be as coarse as its timer.
func (b *bench) latency(ctx context.Context) error {
	echo, end, err := b.startEcho(ctx)
	if err != nil {
		return err
	}
	defer end()
	store, closeStore, err := b.newStore(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	if err := b.node.greet(); err != nil {
		return err
	}
	var votes, trips, writes samples
	for range batches {
		for _, f := range []func() error{
			func() error { return b.node.timedVote(&votes) },
			func() error { return trips.timed(echo) },
			func() error { return writes.timed(store) },
		} {
			for range batchSize {
				if err := errors.Join(f(), context.Cause(ctx)); err != nil {
					return err
				}
			}
		}
	}
	own, err := b.ownTimes(ctx, len(votes))
	if err != nil {
		return err
	}
	parts := own.mean() + 3*trips.mean() + writes.mean()
	ratio := float64(votes.mean()) / float64(parts)
	b.rows = append(b.rows,
		row{
			"request to reply through host and vsock, mean", millis(votes.mean()),
			fmt.Sprintf("in the guest %s + 3 × vsock %s + store %s = %s, ratio %.2f", millis(own.mean()), millis(trips.mean()), millis(writes.mean()), millis(parts), ratio),
			fmt.Sprintf("≤ %.2f", overhead), ratio <= overhead,
		},
		row{"memory of the guest that all of this ran in", fmt.Sprintf("%d MiB", memoryMiB), "-", fmt.Sprintf("≤ %d MiB", memoryMiB), true})
	return nil
}

// startEcho boots an enclave that echoes, and returns a round trip of vsock. Its
// image has the same kernel.
func (b *bench) startEcho(ctx context.Context) (trip func() error, end func(), err error) {
	program := filepath.Join(b.Dir, "probe")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "privyseal/test/nitro/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("cannot build the probe: %w\n%s", err, out)
	}
	kernel, err := rig.Kernel()
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(b.Dir, "probe.eif")
	if _, err := b.Run(ctx, "nitro", "build", "--kernel", kernel, "--program", program, "--policy", b.image.Policy, "--out", path); err != nil {
		return nil, nil, err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	dir, err := rig.NewDir()
	if err != nil {
		return nil, nil, err
	}
	m, err := rig.Start(rig.Config{Image: image, Dir: dir, Root: b.Root, CID: echoCID})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	end = func() {
		m.Kill()
		os.RemoveAll(dir)
	}
	conn, err := dialEcho(ctx, m, dir)
	if err != nil {
		end()
		return nil, nil, err
	}
	// As many bytes as a sealed record of the state, about.
	message, back := make([]byte, 256), make([]byte, 256)
	return func() error {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, back)
		return err
	}, end, nil
}

func dialEcho(ctx context.Context, m *rig.Machine, dir string) (net.Conn, error) {
	if _, err := m.Heartbeat(ctx); err != nil {
		return nil, err
	}
	conn, err := vsock.Host{CID: echoCID, Dir: dir}.Dial(ctx, echoPort)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn, nil
}

// newStore returns a write of the host's store, on the disk of its state.
func (b *bench) newStore(ctx context.Context) (write func() error, closeStore func() error, err error) {
	c := filestore.Config{Path: filepath.Join(b.Dir, "store.state"), ID: watermark.ID{ChainID: chainID}}
	if err := filestore.Create(c, watermark.Saved{}); err != nil {
		return nil, nil, err
	}
	s, err := filestore.Open(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	saved, err := s.Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	m := watermark.Mark{Step: watermark.StepPrecommit, SignBytes: make([]byte, 270)}
	return func() (err error) {
		m.Height++
		saved, err = s.Replace(ctx, saved, m)
		return err
	}, s.Close, nil
}

// ownTimes returns what the signer in the guest says that it spent on each
// request, the wait for its state aside.
func (b *bench) ownTimes(ctx context.Context, n int) (own samples, err error) {
	err = follow(ctx, b.signer.Process, func(line []byte) bool {
		var e struct {
			Message string        `json:"msg"`
			Took    time.Duration `json:"took"`
			Store   time.Duration `json:"store"`
		}
		if json.Unmarshal(line, &e) == nil && e.Message == "signed" {
			own = append(own, e.Took-e.Store)
		}
		return len(own) == n
	})
	return own, err
}

// awaitLine waits until the log of the signer holds text.
func awaitLine(ctx context.Context, p *noderig.Process, text string) error {
	return follow(ctx, p, func(line []byte) bool { return bytes.Contains(line, []byte(text)) })
}

// follow reads the log from its beginning until found says so. A log that stands
// still for 30 seconds is an error.
func follow(ctx context.Context, p *noderig.Process, found func([]byte) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("not within 30 s"))
	defer cancel()
	done := false
	err := p.Follow(ctx, func(line []byte) {
		if !done && found(line) {
			done = true
			cancel()
		}
	})
	if done {
		return nil
	}
	return fmt.Errorf("%w; the log of %s ends with\n%s", err, p.Name, p.Tail(20))
}

// node plays a validator node that asks as fast as it is answered.
type node struct {
	listen *net.UnixListener
	conn   net.Conn
	r      *bufio.Reader
	key    ed25519.PublicKey
	height int64 // of the last vote
}

func newNode(path string) (*node, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	return &node{listen: l}, err
}

func (n *node) addr() string { return "unix://" + n.listen.Addr().String() }

func (n *node) close() {
	if n.conn != nil {
		n.conn.Close()
	}
	n.listen.Close()
}

// accept waits for the signer. One that has ended since left connections behind.
func (n *node) accept() error {
	if n.conn != nil {
		n.conn.Close()
	}
	if err := n.listen.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	conn, err := n.listen.Accept()
	if err != nil {
		return fmt.Errorf("the signer does not come: %w", err)
	}
	n.conn, n.r = conn, bufio.NewReader(conn)
	return nil
}

func (n *node) call(req privval.Request) (privval.Response, error) {
	resp, err := privvaltest.Call(n.conn, n.r, req)
	if err == nil && resp.Refused != "" {
		err = errors.New("refused: " + resp.Refused)
	}
	return resp, err
}

// greet asks for the public key, as a node does first.
func (n *node) greet() error {
	resp, err := n.call(privval.Request{Kind: privval.KindPubKey, ChainID: chainID})
	n.key = resp.PubKey.Bytes
	return err
}

// timedVote has a prevote for the next height signed and adds how long it took.
// The signature is verified, outside the measured time.
func (n *node) timedVote(took *samples) error {
	n.height++
	hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n.height)))
	req := privval.Request{
		Kind: privval.KindPrevote, ChainID: chainID, Height: n.height,
		BlockID:          privval.BlockID{Hash: hash[:], PartsTotal: 1, PartsHash: hash[:]},
		Timestamp:        privval.Timestamp{Seconds: time.Now().Unix()},
		ValidatorAddress: make([]byte, 20),
	}
	var resp privval.Response
	err := took.timed(func() (err error) {
		resp, err = n.call(req)
		return err
	})
	if err == nil && !ed25519.Verify(n.key, req.SignBytes(), resp.Signature) {
		err = fmt.Errorf("the signature at height %d is wrong", n.height)
	}
	return err
}

// samples are durations of one kind.
type samples []time.Duration

// timed runs f and keeps how long it took.
func (s *samples) timed(f func() error) error {
	start := time.Now()
	err := f()
	*s = append(*s, time.Since(start))
	return err
}

func (s samples) mean() time.Duration {
	var sum time.Duration
	for _, d := range s {
		sum += d
	}
	return sum / time.Duration(len(s))
}

func (s samples) median() time.Duration {
	return slices.Sorted(slices.Values(s))[len(s)/2]
}

func (s samples) worst() time.Duration { return slices.Max(s) }

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
