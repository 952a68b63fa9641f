package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/looplink"
)

// Enclave is one that was launched.
type Enclave struct {
	Host *looplink.Host
	cmd  *exec.Cmd
	// Out is what the program has printed, and Gramine what Gramine has.
	Out, Gramine Text
	ended        chan struct{}
}

// Text is what somebody prints.
type Text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (t *Text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// Launch runs gramine-sgx in the folder of an enclave. The caller ends it with Kill.
func (m *Machine) Launch(folder string, env ...string) (*Enclave, error) {
	host, err := looplink.NewHost()
	if err != nil {
		return nil, err
	}
	e := &Enclave{Host: host, cmd: exec.Command(filepath.Join(m.Path(), "gramine-sgx"), Name), ended: make(chan struct{})}
	e.cmd.Dir, e.cmd.Stdout, e.cmd.Stderr = folder, &e.Out, &e.Gramine
	e.cmd.Env = append(append(os.Environ(), host.Environment()), env...)
	if err := e.cmd.Start(); err != nil {
		host.Close()
		return nil, err
	}
	go func() {
		e.cmd.Wait()
		close(e.ended)
	}()
	return e, nil
}

// Ask asks the enclave. One that has ended does not answer, and the error says how it ended.
func (e *Enclave) Ask(ctx context.Context, r hostlink.Request) (hostlink.Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-e.ended:
			cancel(fmt.Errorf("the enclave has ended: %v\n%s%s", e.cmd.ProcessState, e.Gramine.String(), e.Out.String()))
		case <-ctx.Done():
		}
	}()
	conn, err := e.Host.Dial(ctx, hostlink.ControlPort)
	if err != nil {
		return hostlink.Reply{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	return hostlink.Call(conn, r)
}

// Signal sends a signal to the process of gramine-sgx.
func (e *Enclave) Signal(s os.Signal) error { return e.cmd.Process.Signal(s) }

// HasEnded reports whether it has ended.
func (e *Enclave) HasEnded() bool {
	select {
	case <-e.ended:
		return true
	default:
		return false
	}
}

// Wait waits until it has ended, and returns the exit status.
func (e *Enclave) Wait() int {
	<-e.ended
	return e.cmd.ProcessState.ExitCode()
}

// Kill ends the enclave as a crash does, and returns when it has ended.
func (e *Enclave) Kill() {
	e.Signal(syscall.SIGKILL)
	<-e.ended
	e.Host.Close()
}
