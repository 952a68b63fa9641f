// Package sgxhost launches an Intel SGX enclave under Gramine, and ends it. The enclave is a
// child of this process and does not outlive it: what it has signed is in the state, and the
// next one goes on from there within a second or two.
//
// It proves nothing about what it launches: the processor compares the program with its
// signature, and the enclave's host the policy that it says it runs under. What Gramine and the
// program print is untrusted text: it is cut, cleaned and logged.
package sgxhost

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/enclavehost"
	"privyseal/internal/looplink"
	"privyseal/internal/vsock"
)

// Launcher launches one enclave. It is an [enclavehost.Launcher].
type Launcher struct {
	Gramine string // gramine-sgx: a name in $PATH, or a path
	Folder  string // with the files of the enclave
	Log     *slog.Logger

	mu      sync.Mutex
	running *process
}

// Ensure implements [enclavehost.Launcher]. What it finds running it has launched itself.
func (l *Launcher) Ensure(ctx context.Context) (enclavehost.Enclave, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil && !l.running.hasEnded() {
		return l.running.enclave(), true, nil
	}
	if err := ctx.Err(); err != nil {
		return enclavehost.Enclave{}, false, err
	}
	p, err := l.launch()
	if err != nil {
		return enclavehost.Enclave{}, false, err
	}
	l.running = p
	return p.enclave(), false, nil
}

// Alive implements [enclavehost.Launcher].
func (l *Launcher) Alive(_ context.Context, id string) (bool, error) {
	p := l.find(id)
	return p != nil && !p.hasEnded(), nil
}

// Stop implements [enclavehost.Launcher].
func (l *Launcher) Stop(_ context.Context, id string) error {
	if p := l.find(id); p != nil {
		p.stop(patience)
	}
	return nil
}

func (l *Launcher) find(id string) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil || l.running.id != id {
		return nil
	}
	return l.running
}

// patience is how long an enclave may take to end by itself: Gramine hands on one SIGTERM, and
// has nothing to write.
const patience = 5 * time.Second

// process is one run of Gramine with the enclave in it.
type process struct {
	id    string
	cmd   *exec.Cmd
	link  *looplink.Host
	lines *lines
	ended chan struct{} // closed when it has, and why is known
	why   error
}

// launch starts Gramine. Whether the enclave comes up, its link says.
func (l *Launcher) launch() (*process, error) {
	link, err := looplink.NewHost()
	if err != nil {
		return nil, err
	}
	p := &process{link: link, ended: make(chan struct{}), lines: &lines{log: l.Log, now: time.Now}}
	p.cmd = exec.Command(l.Gramine, Name)
	p.cmd.Dir = l.Folder
	p.cmd.Env = append(environment(), link.Environment())
	p.cmd.SysProcAttr = ofHost()
	p.cmd.Stdout, p.cmd.Stderr = p.lines.from("program"), p.lines.from("gramine")
	p.cmd.WaitDelay = patience // for the pipes of those that Gramine may have left
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		link.Close()
		return nil, unstarted(l.Gramine, l.Folder, err)
	}
	p.id = strconv.Itoa(p.cmd.Process.Pid)
	return p, nil
}

// run starts the process and waits for its end, in one thread: the kernel kills a child at the
// end of the thread that made it.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = p.cmd.Wait()
	p.kill() // what is left of its group
	p.lines.end()
	p.why = explain(p.cmd.Dir, p.lines, err)
	close(p.ended) // first: a dial that fails from now on says so
	p.link.Close()
}

// environment is what Gramine's launcher, a shell script, needs of ours. The enclave gets what
// its manifest names.
func environment() (env []string) {
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// stop ends the process, and returns when it has ended.
func (p *process) stop(patience time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return
	case <-time.After(patience):
	}
	p.kill()
	<-p.ended
}

func (p *process) kill() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

func (p *process) enclave() enclavehost.Enclave {
	return enclavehost.Enclave{ID: p.id, Link: link{p.link, p}}
}

// link is that of a process: with its end, no dial waits any longer.
type link struct {
	*looplink.Host
	p *process
}

// Dial implements [enclavehost.Link].
func (l link) Dial(ctx context.Context, port uint32) (vsock.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	c, err := l.Host.Dial(ctx, port)
	if err != nil && l.p.hasEnded() {
		return nil, fmt.Errorf("%w: %w", enclavehost.ErrEnded, l.p.why)
	}
	return c, err
}
