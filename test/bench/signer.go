package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// home is a home folder of privyseal.
type home struct {
	b    *bench
	dir  string
	http string // where metrics are served
}

// newHome makes a home folder for chains whose nodes listen on the sockets of
// the same names.
func (b *bench) newHome(ctx context.Context, name string, chains ...string) (*home, error) {
	h := &home{b: b, dir: b.path(name)}
	for _, chain := range chains {
		if err := h.init(ctx, chain); err != nil {
			return nil, err
		}
	}
	return h, h.moveMetrics()
}

// init adds a chain whose node listens on the socket of the same name.
func (h *home) init(ctx context.Context, chain string, more ...string) error {
	return h.initAt(ctx, chain, "unix://"+h.b.socket(chain), more...)
}

func (h *home) initAt(ctx context.Context, chain, node string, more ...string) error {
	args := []string{"init", "--home", h.dir, "--chain-id", chain, "--node", node}
	_, err := output(ctx, h.b.privyseal, append(args, more...)...)
	return err
}

// moveMetrics puts metrics on a free port: the usual one may be in use by a
// signer that runs here.
func (h *home) moveMetrics() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.http = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	return edit(filepath.Join(h.dir, "privyseal.toml"), map[string]string{
		`(?m)^listen = .*$`: `listen = "` + h.http + `"`,
	})
}

// process is a running program.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

// start runs a program that is killed when ctx ends.
func start(ctx context.Context, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, name, args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// start runs `privyseal start`.
func (h *home) start(ctx context.Context) (*process, error) {
	return start(ctx, h.b.privyseal, "start", "--home", h.dir)
}

// stop ends the program as an operator does and returns how that went.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	stuck := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(p.cmd.Path), err, tail(p.log.Bytes()))
	}
	return nil
}

// kill ends the program at once, if it still runs.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// failed ends the program and returns err with the end of its log.
func (p *process) failed(err error) error {
	p.kill()
	return fmt.Errorf("%w\n%s", err, tail(p.log.Bytes()))
}

func tail(log []byte) []byte { return log[max(0, len(log)-2000):] }

// residentMiB returns the resident set in MiB, mapped files included.
func (p *process) residentMiB() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`VmRSS:\s*(\d+) kB`).FindSubmatch(status)
	if found == nil {
		return 0, errors.New("no VmRSS in /proc/PID/status")
	}
	kib, err := strconv.ParseFloat(string(found[1]), 64)
	return kib / 1024, err
}
