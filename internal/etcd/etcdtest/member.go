package etcdtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience bounds what a test waits for that has to happen.
const patience = time.Minute

// member is one etcd, which runs or does not.
type member struct {
	name, client, peer string // the last two are host:port
	reached            string // by the others: peer, or what leads there
	dir                string
	certificate        Files
	version            string // of its program, such as v3.7.3

	cmd    *exec.Cmd // nil: it is dead
	paused bool
	ready  chan struct{} // closed once it serves clients
	led    chan struct{} // closed once it has a leader
	ended  chan struct{}
	log    *tail
}

func (m *member) runs() bool { return m.cmd != nil && !m.paused }

func (m *member) serves() bool { return m.runs() && isClosed(m.ready) && !m.hasEnded() }

func (m *member) hasEnded() bool { return isClosed(m.ended) }

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (m *member) data() string { return filepath.Join(m.dir, m.name) }

// start runs the program; ready is closed once it serves clients, which takes a majority.
func (m *member) start(program string, args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=" + m.dir}
	cmd.SysProcAttr = endsWithUs()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	m.cmd, m.log, m.ready, m.led, m.ended = cmd, &tail{}, make(chan struct{}), make(chan struct{}), make(chan struct{})
	go m.log.follow(r, map[string]chan struct{}{"serving client traffic": m.ready, " elected leader ": m.led})
	go func(ended chan struct{}) {
		defer close(ended)
		cmd.Wait()
	}(m.ended)
	return nil
}

// wait returns once the member serves clients, or an error if it ends before.
func (m *member) wait() error { return m.waitFor(m.ready, "serve clients") }

func (m *member) waitFor(c chan struct{}, what string) error {
	select {
	case <-c:
		return nil
	case <-m.ended:
		return fmt.Errorf("%s ends:\n%s", m.name, m.log)
	case <-time.After(patience):
		return fmt.Errorf("%s does not %s within %v:\n%s", m.name, what, patience, m.log)
	}
}

func (m *member) kill() {
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Kill()
	<-m.ended
	m.cmd, m.paused = nil, false
}

// tail keeps the last lines that a program wrote.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// follow reads lines, and closes what waits for one with a text.
func (t *tail) follow(r io.ReadCloser, awaited map[string]chan struct{}) {
	defer r.Close()
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		for text, c := range awaited {
			if strings.Contains(line, text) {
				close(c)
				delete(awaited, text)
			}
		}
		t.mu.Lock()
		if line != "" {
			t.lines = append(t.lines, strings.TrimSuffix(line, "\n"))
			t.lines = slices.Delete(t.lines, 0, max(0, len(t.lines)-12))
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}
