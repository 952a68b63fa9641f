package rig

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs, with its output in a file.
type Process struct {
	Name string
	Log  string // path of standard output and error

	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// StartProcess starts a program that must not be stopped but by us: it is out
// of reach of the terminal's Ctrl-C, and ends with us if we die.
func StartProcess(name, log, program string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{Name: name, Log: log, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = ownGroup()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the process ended: nil for exit status 0. Call it after Done.
func (p *Process) Err() error { return p.err }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop sends SIGTERM, and SIGKILL if that was not enough after the grace time.
// It returns how the process ended. Stopping twice is fine.
func (p *Process) Stop(grace time.Duration) error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(grace):
		p.Signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, grace)
	}
}

// Tail returns the last n lines of the log.
func (p *Process) Tail(n int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Output runs a program to its end and returns its standard output. The error
// holds its standard error.
func Output(ctx context.Context, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// poll calls look every 50 ms until it says done, fails, the process ends or
// the context does; once more after the end, for what was the last.
func poll(ctx context.Context, p *Process, look func() (done bool, err error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := look()
		if done {
			return err
		}
		select {
		case <-p.Done():
			if done, err := look(); done {
				return err
			}
			return fmt.Errorf("%s ended (%v)", p.Name, p.Err())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", p.Name, context.Cause(ctx)), err)
		case <-tick.C:
		}
	}
}

// Follow hands each line of the log to line, from the first on, until the
// process ends or the context does.
func (p *Process) Follow(ctx context.Context, line func([]byte)) error {
	file, err := os.Open(p.Log)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	var begun []byte
	return poll(ctx, p, func() (bool, error) {
		for {
			part, err := lines.ReadBytes('\n')
			begun = append(begun, part...)
			switch {
			case err == io.EOF:
				return false, nil
			case err != nil:
				return true, err
			}
			line(begun)
			begun = begun[:0]
		}
	})
}
