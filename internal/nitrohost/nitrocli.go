package nitrohost

import (
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

// How long nitro-cli may take before we stop waiting, and how much it may say.
const (
	describeTimeout = 20 * time.Second
	launchTimeout   = 2 * time.Minute
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
	select {
	case <-p.done:
	case <-ctx.Done():
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

// Where the processes of enclaves have the sockets that nitro-cli reaches them by.
// AWS's own folder lets every user of the instance in, and one who connects can have
// an enclave's process stop listening, before it asks who that is: the enclave is in no
// list any more, and keeps its memory.
const (
	socketsVariable = "NITRO_CLI_SOCKETS_PATH"

	// SocketsDir is the folder that systemd/privyseal-nitro.service makes, for us
	// alone. Commands beside the service have to look there too.
	SocketsDir = "/run/privyseal-nitro"
)

// environment is ours but for the variables of AWS: nitro-cli needs none, and a
// process keeps its own for as long as it lives.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	if _, set := os.LookupEnv(socketsVariable); !set && CheckSockets(SocketsDir) == nil {
		env = append(env, socketsVariable+"="+SocketsDir)
	}
	return env
}

// Sockets returns the folder of the sockets that nitro-cli is given, "" for its own
// default.
func Sockets() string {
	for _, v := range environment() {
		if path, ok := strings.CutPrefix(v, socketsVariable+"="); ok {
			return path
		}
	}
	return ""
}

// CheckSockets says why a folder is not one that this user alone gets into.
func CheckSockets(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s has mode %04o, and users other than its owner have access", dir, info.Mode().Perm())
	case !ok || int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s is not the folder of this user", dir)
	}
	return nil
}
