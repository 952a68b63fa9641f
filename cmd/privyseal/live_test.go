package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/filestore"
	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
	"privyseal/internal/watermark"
)

// A busyNode asks whoever connects for one prevote after the other, each at the next
// height of its chain.
type busyNode struct {
	t        *testing.T
	chainID  string
	height   *atomic.Int64 // shared by the nodes of a chain
	listener net.Listener

	signed, connections, lost atomic.Int64
}

func newBusyNode(t *testing.T, path, chainID string, height *atomic.Int64) *busyNode {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	n := &busyNode{t: t, chainID: chainID, height: height, listener: l}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.connections.Add(1)
			group.Go(func() { n.ask(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return n
}

func (n *busyNode) ask(conn net.Conn) {
	defer conn.Close()
	defer n.lost.Add(1)
	r := bufio.NewReader(conn)
	for {
		conn.SetDeadline(time.Now().Add(patience))
		height := n.height.Add(1)
		resp, err := privvaltest.Call(conn, r, privval.Request{Kind: privval.KindPrevote, ChainID: n.chainID, Height: height})
		if err != nil {
			return // the signer went
		}
		// Another node of the chain may have been faster.
		if resp.Refused != "" && !strings.Contains(resp.Refused, "regression") && !strings.Contains(resp.Refused, "gap") {
			n.t.Errorf("height %d of %s: %s", height, n.chainID, resp.Refused)
			return
		}
		if resp.Refused == "" {
			n.signed.Add(1)
		}
		time.Sleep(2 * time.Millisecond) // the pace of a test, not a wait
	}
}

// signsOn waits until the node has got more signatures than it has now.
func (n *busyNode) signsOn() {
	n.t.Helper()
	before := n.signed.Load()
	eventually(n.t, n.chainID+" is signed for", func() bool { return n.signed.Load() > before+2 })
}

// eventually waits until what is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// liveHome is a home folder with a running signer.
type liveHome struct {
	t         *testing.T
	dir, home string
	log       *syncBuffer
	process   *signerProcess
}

func newLiveHome(t *testing.T) *liveHome {
	t.Helper()
	dir := diskDir(t)
	return &liveHome{t: t, dir: dir, home: filepath.Join(dir, "home"), log: &syncBuffer{}}
}

func (l *liveHome) start() {
	l.t.Helper()
	l.process = startSignerTo(l.t, l.home, l.log)
	l.process.waitReady(l.t)
}

// reload sends SIGHUP and waits until the signer has done what it does then.
func (l *liveHome) reload() string {
	l.t.Helper()
	before := len(l.log.String())
	if err := l.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		l.t.Fatal(err)
	}
	p := l.process
	p.notify.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 256)
	for _, want := range []string{"RELOADING=1", "READY=1"} {
		n, err := p.notify.Read(b)
		if err != nil || !strings.HasPrefix(string(b[:n]), want) {
			l.t.Fatalf("systemd gets %q, %v, and not %s\n%s", b[:n], err, want, l.log)
		}
	}
	eventually(l.t, "a line says what was reloaded", func() bool { return strings.Contains(l.log.String()[before:], " reload") })
	return l.log.String()[before:]
}

func (l *liveHome) socket(name string) string { return filepath.Join(l.dir, name+".sock") }

// edit replaces texts in the config, by pairs.
func (l *liveHome) edit(pairs ...string) {
	l.t.Helper()
	path := filepath.Join(l.home, "privyseal.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			l.t.Fatalf("the config has no %q:\n%s", pairs[i], text)
		}
		text = []byte(strings.Replace(string(text), pairs[i], pairs[i+1], 1))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *liveHome) init(chainID string) {
	l.t.Helper()
	runCommand(l.t, "privyseal", "init", "--home", l.home, "--chain-id", chainID, "--node", chainID+"="+"unix://"+l.socket(chainID))
}

func (l *liveHome) stop() {
	l.t.Helper()
	l.process.cmd.Process.Signal(syscall.SIGTERM)
	if err := l.process.cmd.Wait(); err != nil {
		l.t.Errorf("after SIGTERM: %v\n%s", err, l.log)
	}
}

// An identity that cannot be read is a bad config: nothing changes, so that the right one
// is taken at the next reload.
func TestReloadOfAnIdentity(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	var height atomic.Int64
	a := newBusyNode(t, l.socket("one"), "one", &height)
	l.start()
	a.signsOn()
	l.edit(`level  = "info"`, `level  = "debug"`, `id = "one"`, "id = \"one\"\nidentity = \"nope.key\"")
	if said := l.reload(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "cannot reload the config, nothing changes") || !strings.Contains(said, "nope.key: no such file or directory") {
		t.Errorf("an identity that is missing is said so:\n%s", said)
	}
	runCommand(t, "privyseal", "key", "generate", "--home", l.home, "--out", filepath.Join(l.home, "identity.key"))
	l.edit(`"nope.key"`, `"identity.key"`)
	if said := l.reload(); !strings.Contains(said, `changed="log level debug; chain one: identity"`) || strings.Contains(said, "level=ERROR") || strings.Contains(said, "needs_restart") {
		t.Errorf("the right identity is not taken:\n%s", said)
	}
	a.signsOn()
	l.stop()
}

// TestReload follows an operator who changes everything under a signer that signs.
func TestReload(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	var one, two atomic.Int64
	a := newBusyNode(t, l.socket("one"), "one", &one)
	b := newBusyNode(t, l.socket("b"), "one", &one)
	c := newBusyNode(t, l.socket("two"), "two", &two)
	l.start()
	a.signsOn()

	// More of everything, and two things that have to wait.
	l.init("two")
	l.edit(`{ name = "one", addr = "unix://`+l.socket("one")+`" }`, `{ name = "one", addr = "unix://`+l.socket("one")+`" }, { name = "b", addr = "unix://`+l.socket("b")+`" }`,
		`level  = "info"`, `level  = "debug"`, `listen = ""`, `listen = "127.0.0.1:9"`, `# max_height = 0`, `max_height = 1000000`)
	said := l.reload()
	for _, want := range []string{`changed="log level debug; chain one: nodes; chain two added"`, `needs_restart="chain one: max_height; listen"`} {
		if strings.Count(said, want) != 1 {
			t.Errorf("the log does not say %s once:\n%s", want, said)
		}
	}
	b.signsOn()
	c.signsOn()
	a.signsOn()
	eventually(t, "the log says more", func() bool { return strings.Contains(l.log.String(), "level=DEBUG msg=signed") })

	// A bad config changes nothing.
	l.edit(`level  = "debug"`, `levle  = "info"`, `state = "state/two.mark"`, ``)
	if said := l.reload(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "cannot reload the config, nothing changes") || !strings.Contains(said, "levle") {
		t.Errorf("a bad config is said so:\n%s", said)
	}
	for _, n := range []*busyNode{a, b, c} {
		n.signsOn()
	}
	if a.connections.Load() != 1 || b.connections.Load() != 1 || c.connections.Load() != 1 {
		t.Errorf("connections: %d, %d, %d, and not one each\n%s", a.connections.Load(), b.connections.Load(), c.connections.Load(), l.log)
	}

	// Less of everything.
	config := filepath.Join(l.home, "privyseal.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "\n[[chain]]\nid = \"two\"")
	before = strings.NewReplacer(`levle  = "info"`, `level  = "warn"`, `{ name = "one", addr = "unix://`+l.socket("one")+`" }, `, "").Replace(before)
	if err := os.WriteFile(config, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	l.reload()
	eventually(t, "node one is let go", func() bool { return a.lost.Load() == 1 })
	b.signsOn()
	status := runCommand(t, "privyseal", "status", "--home", l.home)
	if strings.Contains(status, "two") || strings.Contains(status, "\n  node one") || !strings.Contains(status, "node b") {
		t.Errorf("status:\n%s", status)
	}
	// The state of the chain that is gone is nobody's now.
	info, err := filestore.Inspect(filestore.Config{Path: filepath.Join(l.home, "state", "two.mark")})
	if err != nil || info.Problem != nil {
		t.Errorf("the state of a removed chain: %v, %v", err, info.Problem)
	}
	store, err := filestore.Open(t.Context(), filestore.Config{Path: filepath.Join(l.home, "state", "two.mark"), ID: info.ID})
	if err != nil {
		t.Errorf("the state of a removed chain is still taken: %v", err)
	} else {
		store.Close()
	}
	l.stop()
	if c.lost.Load() != 1 || a.connections.Load() != 1 {
		t.Errorf("what was removed came back: %d, %d", c.lost.Load(), a.connections.Load())
	}
}

// TestReloadMendsAChain: what an operator mended needs no restart, and what may pass
// needs nobody.
func TestReloadMendsAChain(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	l.init("two")
	noMetrics(t, l.home)
	var one, two atomic.Int64
	a, b := newBusyNode(t, l.socket("one"), "one", &one), newBusyNode(t, l.socket("two"), "two", &two)
	key := filepath.Join(l.home, "keys", "two.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	l.start()
	a.signsOn()
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if said := l.reload(); !strings.Contains(said, `changed="chain two opened again"`) {
		t.Errorf("%s", said)
	}
	b.signsOn()
	// Hangups in any number end nothing.
	for range 50 {
		l.process.cmd.Process.Signal(syscall.SIGHUP)
	}
	a.signsOn()
	b.signsOn()
	if a.connections.Load() != 1 || b.connections.Load() != 1 {
		t.Errorf("connections: %d, %d", a.connections.Load(), b.connections.Load())
	}
	l.process.cmd.Process.Signal(syscall.SIGTERM)
	if err := l.process.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, l.log)
	}
}

// TestBusyPort: metrics are had when their port is free, and signatures at once.
func TestBusyPort(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	addr := other.Addr().String()
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	l.edit(`listen = ""`, `listen = "`+addr+`"`)
	var one atomic.Int64
	n := newBusyNode(t, l.socket("one"), "one", &one)
	l.start()
	n.signsOn()
	if text := l.log.String(); strings.Count(text, "address already in use") != 1 || !strings.Contains(text, "level=ERROR") {
		t.Errorf("the log:\n%s", text)
	}
	if text := runCommand(t, "privyseal", "status", "--home", l.home, "--json"); !strings.Contains(text, "address already in use") {
		t.Errorf("status does not say it:\n%s", text)
	}
	check := exec.Command("privyseal", "check", "--home", l.home)
	if out, err := check.CombinedOutput(); err == nil || !strings.Contains(string(out), "FAIL  listen") {
		t.Errorf("check: %v\n%s", err, out)
	}
	other.Close()
	eventually(t, "the metrics are served when the port is free", func() bool {
		resp, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	n.signsOn()
	l.stop()
}

// TestNoStatusSocket: a home folder that takes no socket stops no signature.
func TestNoStatusSocket(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	// Nobody can listen there, as on a file system that is read-only.
	if err := os.MkdirAll(filepath.Join(l.home, "privyseal.sock", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var one atomic.Int64
	n := newBusyNode(t, l.socket("one"), "one", &one)
	l.start()
	n.signsOn()
	if text := l.log.String(); strings.Count(text, "listener=status") != 1 {
		t.Errorf("said once:\n%s", text)
	}
	l.stop()
}

// TestReadOnlyHome: config and key belong to root and cannot be written, the state
// is elsewhere, as in a container.
func TestReadOnlyHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user: run make test as root")
	}
	const user = 65534
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	state := filepath.Join(l.dir, "state")
	l.edit(`"state/one.mark"`, `"`+filepath.Join(state, "one.mark")+`"`)
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	runCommand(t, "privyseal", "state", "init", "--home", l.home, "--fresh-state")
	chown := func(path string) {
		if err := filepath.Walk(path, func(name string, _ os.FileInfo, err error) error { return errors.Join(err, os.Chown(name, user, user)) }); err != nil {
			t.Fatal(err)
		}
	}
	chown(state)
	chown(filepath.Join(l.home, "keys"))
	for path, mode := range map[string]os.FileMode{
		l.dir: 0o755, l.home: 0o555, filepath.Join(l.home, "privyseal.toml"): 0o444, filepath.Join(l.home, "keys"): 0o500, filepath.Join(l.home, "keys", "one.key"): 0o400,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	var one atomic.Int64
	n := newBusyNode(t, l.socket("one"), "one", &one)
	if err := os.Chmod(l.socket("one"), 0o777); err != nil {
		t.Fatal(err)
	}
	exe, err := exec.LookPath("privyseal")
	if err != nil {
		t.Fatal(err)
	}
	// The program is where that user may not look.
	program := filepath.Join(l.dir, "privyseal")
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "start", "--home", l.home)
	cmd.Stderr = l.log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "it signs, or ends", func() bool { return n.signed.Load() > 5 || len(ended) > 0 })
	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil || n.signed.Load() <= 5 {
		t.Fatalf("%d signatures, %v\n%s", n.signed.Load(), err, l.log)
	}
	if text := l.log.String(); strings.Count(text, "listener=status") != 1 {
		t.Errorf("said once:\n%s", text)
	}
}

// TestLogReaderGoes: who reads the log may go, and the signer goes on and counts.
func TestLogReaderGoes(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	addr := freePort(t)
	noMetrics(t, l.home)
	l.edit(`listen = ""`, `listen = "`+addr+`"`, `level  = "info"`, `level  = "debug"`)
	var one atomic.Int64
	n := newBusyNode(t, l.socket("one"), "one", &one)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startSignerTo(t, l.home, w)
	w.Close()
	p.waitReady(t)
	n.signsOn()
	r.Close()
	n.signsOn()
	eventually(t, "the lost lines are counted", func() bool {
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text := &bytes.Buffer{}
		text.ReadFrom(resp.Body)
		return strings.Contains(text.String(), "privyseal_log_lines_lost_total") && !strings.Contains(text.String(), "privyseal_log_lines_lost_total 0\n")
	})
	n.signsOn()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// TestCrashIsStartedAgain: what ends a Go program by itself is not a status that a unit
// takes for an operator's business.
func TestCrashIsStartedAgain(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	l.start()
	l.process.cmd.Process.Signal(syscall.SIGQUIT)
	l.process.cmd.Wait()
	status := l.process.cmd.ProcessState.ExitCode()
	units, err := filepath.Glob("../../systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		_, list, _ := strings.Cut(string(text), "\nRestartPreventExitStatus=")
		list, _, _ = strings.Cut(list, "\n")
		if status != 2 || strings.Contains(" "+list+" ", " 2 ") {
			t.Errorf("%s: a crash ends with status %d, and %s is not started again", unit, status, list)
		}
	}
}

// TestPassingFailureIsTriedAgain: a state that another process holds when a chain is
// added is taken when it is free.
func TestPassingFailureIsTriedAgain(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	l.start()
	l.init("two")
	path := filepath.Join(l.home, "state", "two.mark")
	info, err := filestore.Inspect(filestore.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	other, err := filestore.Open(t.Context(), filestore.Config{Path: path, ID: watermark.ID{ChainID: "two", Key: info.ID.Key}})
	if err != nil {
		t.Fatal(err)
	}
	var two atomic.Int64
	n := newBusyNode(t, l.socket("two"), "two", &two)
	l.reload()
	if status := runCommand(t, "privyseal", "status", "--home", l.home); !strings.Contains(status, "another process has it open") {
		t.Errorf("status:\n%s", status)
	}
	other.Close()
	n.signsOn()
	l.stop()
}

// TestFewDescriptors starts with ever more descriptors, until there are enough: what
// is short of them may pass, and is never an operator's business.
func TestFewDescriptors(t *testing.T) {
	l := newLiveHome(t)
	l.init("one")
	noMetrics(t, l.home)
	failed := 0
	for n := 4; n < 64; n++ {
		status, started := startWithin(t, l.home, n)
		switch {
		case started && failed == 0:
			t.Error("nothing was short of descriptors")
			return
		case started:
			return
		}
		failed++
		// 2 is Go's own, where not even its runtime has enough; the unit starts again.
		if status != cli.Failed && status != 2 {
			t.Errorf("with %d descriptors the exit status is %d", n, status)
		}
	}
	t.Error("64 descriptors are not enough")
}

// startWithin starts a signer that may have n descriptors, and ends it if it signs.
func startWithin(t *testing.T, home string, n int) (status int, started bool) {
	t.Helper()
	log := &syncBuffer{}
	cmd := exec.Command("sh", "-c", `ulimit -n "$1" && exec privyseal start --home "$2"`, "sh", strconv.Itoa(n), home)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	eventually(t, "it starts or ends", func() bool {
		select {
		case <-ended:
			return true
		default:
			started = strings.Contains(log.String(), "privyseal started")
			return started
		}
	})
	cmd.Process.Signal(syscall.SIGTERM)
	<-ended
	if !started {
		t.Logf("with %d descriptors: %.300s", n, log.String())
	}
	return cmd.ProcessState.ExitCode(), started
}
