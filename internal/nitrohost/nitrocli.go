package nitrohost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// How long nitro-cli may take before we stop waiting, and how much it may say. It waits
// 180 s itself for an enclave of up to 6 GiB to come up (calculate_necessary_timeout in
// src/enclave_proc/resource_manager.rs of aws-nitro-enclaves-cli).
const (
	describeTimeout = 20 * time.Second
	launchTimeout   = 4 * time.Minute
	stopTimeout     = time.Minute
	maxOutput       = 1 << 20
)

// run runs nitro-cli and returns what it printed, also beside an error.
//
// It is never killed, whatever it takes and whoever stops waiting: the process of an
// enclave ends itself when a nitro-cli that asked it is gone before its answer
// (notify_error_with_conn in aws-nitro-enclaves-cli), and half a launch leaves an
// enclave that nobody knows. So one runs at a time, and the next waits for it.
//
// Its output goes to files that have no name: the process of an enclave is a
// child of nitro-cli and may keep the descriptors, and would keep us waiting at
// the end of a pipe, or be killed when we close it.
func (l *Launcher) run(ctx context.Context, timeout time.Duration, command string, args ...string) ([]byte, error) {
	return l.runBeside(ctx, timeout, func(context.Context, *process) {}, command, args...)
}

// runBeside has another function look on meanwhile. That ends when the process or the
// context does.
func (l *Launcher) runBeside(ctx context.Context, timeout time.Duration, look func(context.Context, *process), command string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := l.takeTurn(ctx); err != nil {
		return nil, l.explain(command, err, "")
	}
	p, err := l.start(command, args)
	if err != nil {
		l.turn <- struct{}{}
		return nil, err
	}
	var looking sync.WaitGroup
	looking.Go(func() { look(ctx, p) })
	select {
	case <-p.done:
		looking.Wait()
	case <-ctx.Done():
		looking.Wait()
		go func() {
			<-p.done
			p.close()
		}()
		stderr, _ := contents(p.stderr)
		return nil, l.explain(command, fmt.Errorf("it has not ended, and is left to run: %w", context.Cause(ctx)), string(stderr))
	}
	defer p.close()
	stdout, err := contents(p.stdout)
	if err != nil {
		return nil, fmt.Errorf("cannot read what nitro-cli %s printed: %w", command, err)
	}
	if p.err != nil {
		stderr, err := contents(p.stderr)
		return stdout, errors.Join(l.explain(command, p.err, string(stderr)), err)
	}
	return stdout, nil
}

// takeTurn waits until no nitro-cli of ours runs. Who took the turn gives it back when
// the process has ended.
func (l *Launcher) takeTurn(ctx context.Context) error {
	l.once.Do(func() {
		l.turn = make(chan struct{}, 1)
		l.turn <- struct{}{}
	})
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("an earlier nitro-cli still runs: %w", context.Cause(ctx))
	}
}

// process is a nitro-cli that runs.
type process struct {
	stdout, stderr *os.File
	done           chan struct{} // closed when it has ended
	err            error         // why it failed, once done is closed
}

func (p *process) close() {
	p.stdout.Close()
	p.stderr.Close()
}

// start starts nitro-cli, and gives the turn back when it has ended.
func (l *Launcher) start(command string, args []string) (*process, error) {
	p := &process{done: make(chan struct{})}
	for _, f := range []**os.File{&p.stdout, &p.stderr} {
		var err error
		if *f, err = nameless(); err != nil {
			p.close()
			return nil, fmt.Errorf("cannot run nitro-cli: %w", err)
		}
	}
	cmd := exec.Command(l.Path, append([]string{command}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), p.stdout, p.stderr
	// Ctrl-C in our terminal is meant neither for the enclave nor for nitro-cli.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		p.close()
		return nil, l.explain(command, err, "")
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
		l.turn <- struct{}{}
	}()
	return p, nil
}

func nameless() (*os.File, error) {
	f, err := os.CreateTemp("", "privyseal-nitro-cli")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func contents(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxOutput+1))
	if err == nil && len(data) > maxOutput {
		err = fmt.Errorf("more than %d bytes", maxOutput)
	}
	return data, err
}
