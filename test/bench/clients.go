package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
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
	r := &race{b: b, bin: bin, ds: ds}
	defer r.end()
	for _, enter := range []func(context.Context) error{r.enterOurs, r.enterYubico, r.enterPrivyseal, r.enterTMKMS} {
		if err := enter(ctx); err != nil {
			return nil, err
		}
	}
	if err := byTurns(ctx, r.candidates, clientBatches); err != nil {
		return nil, err
	}
	return r.rows(), nil
}

// race is who signs on one device by turns, and how long their signatures took.
type race struct {
	b          *bench
	bin        string // folder of the programs of others
	ds         devices
	candidates []func() error
	atEnd      []func()

	client *client // ours

	ours, yubico, oursAsked, shell, votes, peer, durable samples
}

func (r *race) end() {
	for _, f := range r.atEnd {
		f()
	}
}

// add has a candidate take part until the end.
func (r *race) add(end func(), candidates ...func() error) {
	r.atEnd = append(r.atEnd, end)
	r.candidates = append(r.candidates, candidates...)
}

func (r *race) enterOurs(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if r.client, err = startClient(ctx, self, "-sign-on", r.ds[0].URL()); err != nil {
		return err
	}
	r.add(r.client.close, func() error { return r.client.sign(batchSize, &r.ours) })
	return nil
}

// enterYubico adds Yubico's library for Python, which is timed from within, and its program
// for people, which is timed from outside, as ours is once more.
func (r *race) enterYubico(ctx context.Context) error {
	python, err := startClient(ctx, filepath.Join(r.bin, "yubihsm-python"), "-B", "-c", yubicoClient, r.ds[0].URL(), fmt.Sprint(hsmAuth), hsmPassword, "1")
	if errors.Is(err, os.ErrNotExist) {
		leftOut("Yubico's clients of a YubiHSM: scripts/setup yubihsm brings them, on Debian")
		return nil
	}
	if err != nil {
		return err
	}
	r.add(python.close, func() error { return python.sign(batchSize, &r.yubico) })
	shell, command, err := r.b.startShell(ctx, filepath.Join(r.bin, "yubihsm-shell"), r.ds)
	if err != nil {
		return err
	}
	r.add(shell.close,
		func() error { return shell.asked(command, batchSize, &r.shell) },
		func() error { return r.client.asked("1", batchSize, &r.oursAsked) })
	return nil
}

func (r *race) enterPrivyseal(ctx context.Context) error {
	s, err := r.b.fast(ctx, r.ds)
	if err != nil {
		return err
	}
	r.add(s.close, func() error { return s.nodes[0].timedPrevotes(batchSize, &r.votes) })
	return nil
}

// enterTMKMS adds tmkms. It has nothing of its state on disk when it signs, so a durable
// write is measured beside each of its votes.
func (r *race) enterTMKMS(ctx context.Context) error {
	s, err := r.b.startTMKMS(ctx, filepath.Join(r.bin, tmkms), r.ds)
	if errors.Is(err, os.ErrNotExist) {
		leftOut("tmkms on a YubiHSM: scripts/setup peers builds it, with Rust")
		return nil
	}
	if err != nil {
		return err
	}
	r.add(s.close)
	raw, err := newRawFile(filepath.Join(r.b.path("fast"), "state", "fast.mark"))
	if err != nil {
		return err
	}
	r.add(func() { raw.f.Close() }, func() error {
		for range batchSize {
			if err := s.nodes[0].timedPrevote(&r.peer); err != nil {
				return s.p.failed(err)
			}
			if err := r.durable.timed(raw.write); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

func (r *race) rows() []row {
	rows := []row{{
		what: "client of a YubiHSM that takes no time: a signature, p50", measured: micros(r.ours.p(50)), reference: "-", ratio: "-",
		bound: "≤ " + micros(overheadMax), ok: r.ours.p(50) <= overheadMax,
	}}
	if len(r.yubico) > 0 {
		rows = append(rows,
			atMost(1, "the same", r.ours, 50, "Yubico's for Python", r.yubico),
			atMost(1, "the same, each asked for on standard input", r.oursAsked, 50, "yubihsm-shell", r.shell))
	}
	if len(r.peer) > 0 {
		peer := r.peer.and(r.durable)
		rows = append(rows,
			atMost(1, "request to reply, YubiHSM that takes no time: prevote, p50", r.votes, 50, "tmkms and a write", peer),
			atMost(1, "the same, p99", r.votes, 99, "tmkms and a write", peer))
	}
	return rows
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

// client is a process that signs when it is asked to, and says how long that took.
type client struct {
	p   *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startClient(ctx context.Context, program string, args ...string) (*client, error) {
	if _, err := os.Stat(program); err != nil {
		return nil, err
	}
	c := &client{p: exec.CommandContext(ctx, program, args...)}
	out, err := c.p.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.p.Stderr = c.p.Stdout
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
	if err := c.ask(strconv.Itoa(n)); err != nil {
		return err
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

// startShell starts Yubico's program for people, and returns the command that has it sign.
func (b *bench) startShell(ctx context.Context, program string, ds devices) (c *client, sign string, err error) {
	message := b.path("message")
	if err := os.WriteFile(message, make([]byte, 110), 0o600); err != nil {
		return nil, "", err
	}
	if c, err = startClient(ctx, program, "-C", ds[0].URL()); err != nil {
		return nil, "", err
	}
	var session int
	if err := errors.Join(c.ask("connect"), c.ask(fmt.Sprintf("session open %d %s", hsmAuth, hsmPassword))); err != nil {
		return nil, "", err
	}
	if _, err := fmt.Sscanf(c.out.Text(), "Created session %d", &session); err != nil {
		c.close()
		return nil, "", fmt.Errorf("yubihsm-shell opens no session: %s", c.out.Text())
	}
	sign = fmt.Sprintf("sign eddsa %d 1 ed25519 %s", session, message)
	if err := c.ask(sign); err != nil {
		return nil, "", err
	}
	if signature, err := base64.StdEncoding.DecodeString(c.out.Text()); err != nil || len(signature) != 64 {
		c.close()
		return nil, "", fmt.Errorf("yubihsm-shell does not sign: %s", c.out.Text())
	}
	return c, sign, nil
}

// ask has it read a line, and waits for its answer.
func (c *client) ask(line string) error {
	defer time.AfterFunc(10*time.Second, func() { c.p.Process.Kill() }).Stop()
	fmt.Fprintln(c.in, line)
	if !c.out.Scan() {
		c.close()
		return fmt.Errorf("%s answers no more", filepath.Base(c.p.Path))
	}
	return nil
}

// asked does so n times, and adds how long each answer took.
func (c *client) asked(line string, n int, took *samples) error {
	for range n {
		if err := took.timed(func() error { return c.ask(line) }); err != nil {
			return err
		}
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
