package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"privyseal/internal/key/yubihsm"
	hsm "privyseal/yubihsm"
)

const (
	clientBatches = 80
	overheadMax   = 500 * time.Microsecond
	tmkms         = "tmkms-v0.15.0-yubihsm"
)

// clients compares what signs on a YubiHSM where the device takes no time: our client with
// Yubico's own, and privyseal with tmkms. All of them sign on one simulator, by turns.
func (b *bench) clients(ctx context.Context) ([]row, error) {
	bin, err := b.cache(ctx)
	if err != nil {
		return nil, err
	}
	ds, err := newDevices(1, 1, 0)
	if err != nil {
		return nil, err
	}
	defer ds.stop()
	var ours, yubico, votes, peer, durable samples
	var candidates []func() error

	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	python := filepath.Join(bin, "yubihsm-python")
	for _, c := range []struct {
		took *samples
		args []string
	}{
		{&ours, []string{self, "-sign-on", ds[0].URL()}},
		{&yubico, []string{python, "-B", "-c", yubicoClient, ds[0].URL(), fmt.Sprint(hsmAuth), hsmPassword, "1"}},
	} {
		if _, err := os.Stat(c.args[0]); errors.Is(err, os.ErrNotExist) {
			leftOut("Yubico's client of a YubiHSM: scripts/setup yubihsm brings it, on Debian")
			continue
		}
		client, err := startClient(ctx, c.args)
		if err != nil {
			return nil, err
		}
		defer client.close()
		candidates = append(candidates, func() error { return client.sign(batchSize, c.took) })
	}
	s, err := b.fast(ctx, ds)
	if err != nil {
		return nil, err
	}
	defer s.close()
	candidates = append(candidates, func() error { return s.nodes[0].timedPrevotes(batchSize, &votes) })
	if other, err := b.startTMKMS(ctx, filepath.Join(bin, tmkms), ds); errors.Is(err, os.ErrNotExist) {
		leftOut("tmkms on a YubiHSM: scripts/setup peers builds it, with Rust")
	} else if err != nil {
		return nil, err
	} else {
		defer other.close()
		raw, err := newRawFile(filepath.Join(b.path("fast"), "state", "fast.mark"))
		if err != nil {
			return nil, err
		}
		defer raw.f.Close()
		candidates = append(candidates, func() error {
			for range batchSize {
				if err := other.nodes[0].timedPrevote(&peer); err != nil {
					return other.p.failed(err)
				}
				if err := durable.timed(raw.write); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := byTurns(ctx, candidates, clientBatches); err != nil {
		return nil, err
	}
	rows := []row{{
		what: "client of a YubiHSM that takes no time: a signature, p50", measured: micros(ours.p(50)), reference: "-", ratio: "-",
		bound: fmt.Sprintf("≤ %s", micros(overheadMax)), ok: ours.p(50) <= overheadMax,
	}}
	if len(yubico) > 0 {
		rows = append(rows, atMost(1, "the same", ours, 50, "Yubico's for Python", yubico))
	}
	if len(peer) > 0 {
		rows = append(rows,
			// tmkms has nothing of its state on disk when it signs.
			atMost(1, "request to reply, YubiHSM that takes no time: prevote, p50", votes, 50, "tmkms and a write", peer.and(durable)),
			atMost(1, "the same, p99", votes, 99, "tmkms and a write", peer.and(durable)))
	}
	return rows, nil
}

// byTurns runs all candidates so many times, in another order each time.
func byTurns(ctx context.Context, candidates []func() error, times int) error {
	order := rand.New(rand.NewPCG(1, 2))
	for range times {
		for _, i := range order.Perm(len(candidates)) {
			if err := candidates[i](); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// leftOut says what is not compared, and why.
func leftOut(what string) { fmt.Printf("left out, %s\n", what) }

// cache returns the folder of programs that scripts/setup brings.
func (b *bench) cache(ctx context.Context) (string, error) {
	setup := filepath.Join(b.root, "scripts", "setup")
	if _, err := output(ctx, setup, "yubihsm"); err != nil {
		return "", err
	}
	return output(ctx, setup, "bin")
}

// fast starts privyseal on a device.
func (b *bench) fast(ctx context.Context, ds devices) (*served, error) {
	h, err := b.slowHome(ctx, "fast", ds, "fast")
	if err != nil {
		return nil, err
	}
	n, err := b.newNode("fast")
	if err != nil {
		return nil, err
	}
	n.decode = decodeAny
	return serving([]*node{n}, func() (*process, error) { return h.start(ctx) })
}

// startTMKMS starts tmkms on a device, with its state on the same disk.
func (b *bench) startTMKMS(ctx context.Context, program string, ds devices) (s *served, err error) {
	if _, err := os.Stat(program); err != nil {
		return nil, err
	}
	dir := b.path("tmkms")
	for _, name := range []string{"secrets", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	identity := filepath.Join(dir, "secrets", "identity.key")
	if _, err := output(ctx, program, "softsign", "keygen", "-t", "consensus", identity); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "tmkms.toml")
	err = os.WriteFile(config, fmt.Appendf(nil, `[[chain]]
id = "tmkms"
key_format = { type = "hex" }
state_file = %q

[[validator]]
chain_id = "tmkms"
addr = %q
secret_key = %q
protocol_version = "v0.38"

[[providers.yubihsm]]
adapter = { type = "http", addr = %q }
auth = { key = %d, password = %q }
keys = [{ chain_ids = ["tmkms"], key = 1, type = "consensus" }]
`, filepath.Join(dir, "state", "tmkms.json"), "unix://"+b.socket("tmkms"), identity,
		"tcp://"+strings.TrimPrefix(ds[0].URL(), "http://"), hsmAuth, hsmPassword), 0o600)
	if err != nil {
		return nil, err
	}
	n, err := b.newNode("tmkms")
	if err != nil {
		return nil, err
	}
	n.decode = decodeAny
	return serving([]*node{n}, func() (*process, error) { return start(ctx, program, "start", "-c", config) })
}

// client is a process that signs when it is told to, and says how long that took.
type client struct {
	p   *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err strings.Builder
}

func startClient(ctx context.Context, args []string) (*client, error) {
	c := &client{p: exec.CommandContext(ctx, args[0], args[1:]...)}
	c.p.Stderr = &c.err
	out, err := c.p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.p.StdinPipe(); err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if err := c.p.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// sign has it make n signatures.
func (c *client) sign(n int, took *samples) error {
	fmt.Fprintln(c.in, n)
	if !c.out.Scan() {
		c.close()
		return fmt.Errorf("%s signs no more: %s", filepath.Base(c.p.Path), &c.err)
	}
	times := strings.Fields(c.out.Text())
	if len(times) != n {
		return fmt.Errorf("%s says %.100q of %d signatures", filepath.Base(c.p.Path), c.out.Text(), n)
	}
	for _, text := range times {
		ns, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		*took = append(*took, time.Duration(ns))
	}
	return nil
}

func (c *client) close() {
	c.in.Close()
	c.p.Process.Kill()
	c.p.Wait()
}

// yubicoClient does what signOn does, with Yubico's library.
//
//go:embed clients.py
var yubicoClient string

// signOn is the client that is compared with Yubico's: it reads how many signatures to make, a
// line each time, and prints how many nanoseconds each took, its verification included.
func signOn(device string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	ds, err := yubihsm.Open(yubihsm.Config{Addresses: []string{device}, AuthKey: hsmAuth, Key: hsm.DeriveKey([]byte(hsmPassword))})
	if err != nil {
		return err
	}
	defer ds.Close()
	public, err := ds.Public(ctx, 1)
	if err != nil {
		return err
	}
	key, err := ds.Key(ctx, 1, public)
	if err != nil {
		return err
	}
	message := make([]byte, 110)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		for range n {
			began := time.Now()
			if _, err := key.Sign(nil, message, nil); err != nil {
				return err
			}
			fmt.Fprint(out, time.Since(began).Nanoseconds(), " ")
		}
		fmt.Fprintln(out)
	}
	return nil
}
