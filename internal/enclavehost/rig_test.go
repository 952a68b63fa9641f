package enclavehost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/awscredentials"
	"privyseal/internal/hostlink"
	"privyseal/internal/nitrohost"
	"privyseal/internal/nitrohost/nitrohosttest"
	"privyseal/internal/policy"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

func TestMain(m *testing.M) { nitrohosttest.Main(m) }

// instance is a launcher of nitro-cli's with the monitor's folder.
type instance struct {
	*nitrohost.Launcher
	dir      string
	mayServe error // why this process may not take the ports
}

func (i *instance) Ensure(ctx context.Context) (Enclave, bool, error) {
	if i.mayServe != nil {
		return Enclave{}, false, i.mayServe
	}
	e, adopted, err := i.Launcher.Ensure(ctx)
	return Enclave{ID: e.ID, Link: vsock.Host{CID: e.CID, Dir: i.dir}, About: []any{"cid", e.CID}}, adopted, err
}

// quick is a pace for tests.
var quick = pace{
	poll: 20 * time.Millisecond, redial: 2 * time.Millisecond, look: 20 * time.Millisecond, silence: time.Minute, patience: time.Minute,
	stable: time.Hour, first: 10 * time.Millisecond, longest: 40 * time.Millisecond, life: time.Minute,
}

var (
	ourImage   = nitrohost.Measurements{PCR0: strings.Repeat("a0", 48), PCR1: strings.Repeat("a1", 48), PCR2: strings.Repeat("a2", 48)}
	otherImage = nitrohost.Measurements{PCR0: strings.Repeat("b0", 48), PCR1: strings.Repeat("b1", 48), PCR2: strings.Repeat("b2", 48)}
	ourPolicy  = [32]byte{1, 2, 3}
	stateKey   = hostlink.Key{7}
	chain1     = watermark.ID{ChainID: "chain-1", Key: [32]byte{5, 5}}
)

const ourName = "privyseal-main"

// machine is an instance with a nitro-cli of ours: what runs on it, and what
// nitro-cli was told.
type machine struct {
	t   *testing.T
	dir string
	cli string // path of nitro-cli

	mu       sync.Mutex
	running  []*guest
	calls    []string
	launches int
	image    nitrohost.Measurements // of what is launched
	honest   func(*guest)           // sets a guest up before it runs
	changed  chan struct{}          // closed at each call
}

func newMachine(t *testing.T) *machine {
	dir, err := os.MkdirTemp("", "host") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, image: ourImage, changed: make(chan struct{})}
	m.cli = nitrohosttest.Serve(t, dir, m.command)
	t.Cleanup(func() {
		for _, g := range m.guests() {
			g.kill()
		}
		os.RemoveAll(dir)
	})
	return m
}

// guestsAre sets up each guest that is launched from now on.
func (m *machine) guestsAre(f func(*guest)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.honest = f
}

// imageIs exchanges the image that is launched.
func (m *machine) imageIs(image nitrohost.Measurements) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.image = image
}

// runs starts a guest that nitro-cli does not know of.
func (m *machine) runs(g *guest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start(g)
}

// command is what nitro-cli does.
func (m *machine) command(args []string) nitrohosttest.Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, strings.Join(args, " "))
	defer func() {
		close(m.changed)
		m.changed = make(chan struct{})
	}()
	switch args[0] {
	case "run-enclave":
		return m.launch(args)
	case "describe-enclaves":
		list := []map[string]any{}
		for _, g := range m.running {
			list = append(list, g.describe())
		}
		out, _ := json.MarshalIndent(list, "", "  ")
		return nitrohosttest.Answer{Stdout: string(out) + "\n"}
	case "terminate-enclave":
		for i, g := range m.running {
			if g.id == args[2] {
				m.running = slices.Delete(m.running, i, i+1)
				g.stop()
				return nitrohosttest.Answer{Stdout: fmt.Sprintf(`{"EnclaveName": %q, "EnclaveID": %q, "Terminated": true}`, g.name, g.id)}
			}
		}
		return nitrohosttest.Answer{Stderr: "[ E08 ] no such enclave\n", Code: 8}
	}
	return nitrohosttest.Answer{Stderr: "unknown command", Code: 2}
}

func (m *machine) launch(args []string) nitrohosttest.Answer {
	m.launches++
	g := &guest{m: m, id: fmt.Sprintf("i-0-enc%d", m.launches), cid: 16 + uint32(m.launches), flags: "NONE", state: "RUNNING", image: m.image}
	for i, a := range args {
		switch a {
		case "--enclave-name":
			g.name = args[i+1]
		case "--enclave-cid":
			cid, _ := strconv.ParseUint(args[i+1], 10, 32)
			g.cid = uint32(cid)
		case "--debug-mode":
			g.flags = "DEBUG_MODE"
		}
	}
	m.start(g)
	return nitrohosttest.Answer{
		Stderr: "Start allocating memory...\n",
		Stdout: fmt.Sprintf(`{"EnclaveName": %q, "EnclaveID": %q, "ProcessID": 7, "EnclaveCID": %d, "NumberOfCPUs": 2, "CPUIDs": [1, 3], "MemoryMiB": 64}`, g.name, g.id, g.cid),
	}
}

// start adds a guest; mu is held.
func (m *machine) start(g *guest) {
	g.policy = ourPolicy
	g.bootID = fmt.Sprintf("%032x", len(m.calls)+1)
	g.ctx, g.stop = context.WithCancel(context.Background())
	if m.honest != nil {
		m.honest(g)
	}
	l, err := net.Listen("unix", g.host().Base())
	if err != nil {
		m.t.Errorf("the monitor cannot listen: %v", err)
		return
	}
	context.AfterFunc(g.ctx, func() { l.Close() })
	go g.serve(l)
	m.running = append(m.running, g)
}

func (m *machine) guests() []*guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.running)
}

// commands returns what nitro-cli was asked to do, descriptions aside.
func (m *machine) commands() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if c != "describe-enclaves" {
			list = append(list, c)
		}
	}
	return list
}

// until waits until nitro-cli was called often enough that f holds.
func (m *machine) until(what string, f func() bool) {
	m.t.Helper()
	deadline := time.After(time.Minute)
	for {
		m.mu.Lock()
		changed, done := m.changed, f()
		m.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.t.Fatalf("never: %s; nitro-cli was called with %q", what, m.commands())
		}
	}
}

// guest is an enclave's end of hostlink, behind a monitor as Firecracker's.
type guest struct {
	m                      *machine
	id, name, flags, state string
	cid                    uint32
	image                  nitrohost.Measurements
	policy                 [32]byte
	bootID                 string
	boots                  chan *hostlink.Boot                 // of each boot
	answer                 func(*hostlink.Boot) hostlink.Reply // nil: all is well
	deaf                   bool
	document               []byte

	ctx  context.Context
	stop context.CancelFunc
}

func (g *guest) host() vsock.Host { return vsock.Host{CID: g.cid, Dir: g.m.dir} }

func (g *guest) describe() map[string]any {
	d := map[string]any{
		"EnclaveName": g.name, "EnclaveID": g.id, "ProcessID": 7, "EnclaveCID": g.cid, "NumberOfCPUs": 2, "CPUIDs": []int{1, 3}, "MemoryMiB": 64,
		"State": g.state, "Flags": g.flags,
	}
	if g.image.PCR0 != "" {
		d["Measurements"] = map[string]string{"HashAlgorithm": "Sha384 { ... }", "PCR0": g.image.PCR0, "PCR1": g.image.PCR1, "PCR2": g.image.PCR2}
	}
	return d
}

// kill ends the guest as kill -9 of its process does.
func (g *guest) kill() {
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	g.stop()
	g.m.running = slices.DeleteFunc(g.m.running, func(o *guest) bool { return o == g })
}

// serve is the monitor: it connects the host to ControlPort, where the guest
// answers.
func (g *guest) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(g.ctx, func() { conn.Close() })()
			r := bufio.NewReaderSize(conn, 16)
			if line, _ := r.ReadString('\n'); line != fmt.Sprintf("CONNECT %d\n", hostlink.ControlPort) {
				return
			}
			io.WriteString(conn, "OK 1073741824\n")
			for {
				raw, err := hostlink.ReadRawRequest(r)
				if err != nil {
					return
				}
				req, err := raw.Decode()
				if err != nil {
					return
				}
				if g.deaf {
					<-g.ctx.Done()
					return
				}
				hostlink.WriteReply(conn, g.reply(&req))
			}
		}()
	}
}

func (g *guest) reply(req *hostlink.Request) hostlink.Reply {
	status := &hostlink.Status{Version: "test", Boot: g.bootID, Policy: g.policy[:]}
	switch {
	case req.Hello != nil:
		return hostlink.Reply{Status: status}
	case req.Boot != nil:
		if g.boots != nil {
			g.boots <- req.Boot
		}
		if g.answer != nil {
			return g.answer(req.Boot)
		}
		for _, c := range req.Boot.Chains {
			status.Chains = append(status.Chains, hostlink.ChainStatus{ID: c.ID, KeyType: "tendermint/PubKeyEd25519", Public: []byte{9}})
		}
		return hostlink.Reply{Status: status}
	case req.Attest != nil:
		return hostlink.Reply{Document: g.document}
	}
	return hostlink.Reply{Error: "not in this guest"}
}

// dial dials a port of the host, as the enclave does.
func (g *guest) dial(ctx context.Context, port uint32) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("%s_%d", g.host().Base(), port))
	if err == nil {
		context.AfterFunc(g.ctx, func() { conn.Close() })
	}
	return conn, err
}

// mustDial dials a port of the host that may not listen yet.
func (g *guest) mustDial(port uint32) vsock.Conn {
	g.m.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		conn, err := g.dial(g.ctx, port)
		if err == nil {
			conn.SetDeadline(end)
			return conn.(vsock.Conn)
		}
		if time.Now().After(end) {
			g.m.t.Fatalf("port %d: %v", port, err)
		}
		time.Sleep(time.Millisecond) // nothing reports when a socket appears
	}
}

// store is the enclave's store of a state that the host keeps.
func (g *guest) store(id watermark.ID) *hostlink.Store {
	return &hostlink.Store{
		Dial: func(ctx context.Context) (net.Conn, error) { return g.dial(ctx, hostlink.StatePort) },
		ID:   id, Key: stateKey, Boot: [16]byte{1},
	}
}

// witness is an Observer that remembers.
type witness struct {
	mu     sync.Mutex
	status []string
	nodes  []string
	events []hostlink.Event
	acked  []uint64
	wake   chan struct{}
	late   func() // what holds up a report of a node
}

func (w *witness) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.wake)
	w.wake = make(chan struct{})
}

func (w *witness) Status(keyType string, public []byte, problem error) {
	w.note(func() {
		text := fmt.Sprintf("signs with %s %x", keyType, public)
		if problem != nil {
			text = problem.Error()
		}
		w.status = append(w.status, text)
	})
}

func (w *witness) Acked(r hostlink.Record) { w.note(func() { w.acked = append(w.acked, r.Seq) }) }
func (w *witness) Event(e hostlink.Event)  { w.note(func() { w.events = append(w.events, e) }) }

func (w *witness) Node(n, s string, _ error) {
	if w.late != nil {
		w.late()
	}
	w.note(func() { w.nodes = append(w.nodes, n+" "+s) })
}

// until waits until f, which may read all fields, holds.
func (w *witness) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		w.mu.Lock()
		wake, done := w.wake, f()
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-wake:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("never: %s\nstatus %q\nnodes %q\nevents %v\nacked %v", what, w.status, w.nodes, w.events, w.acked)
		}
	}
}

func (w *witness) signs(t *testing.T) {
	t.Helper()
	w.until(t, "the chain signs", func() bool {
		return len(w.status) > 0 && w.status[len(w.status)-1] == "signs with tendermint/PubKeyEd25519 09"
	})
}

// says waits until the last status contains text.
func (w *witness) says(t *testing.T, text string) {
	t.Helper()
	w.until(t, text, func() bool { return len(w.status) > 0 && strings.Contains(w.status[len(w.status)-1], text) })
}

// fixed are credentials that do not change.
func fixed(expires time.Time) Source {
	return awscredentials.Static{Value: secret.AWS{AccessKeyID: "AKIA-TEST", SecretAccessKey: secret.New("s3cr3t-access"), SessionToken: secret.New("s3cr3t-session"), Expires: expires}}
}

// setup is a host for one chain on a machine, with what its tests look at.
type setup struct {
	config Config
	w      *witness
	fake   *storetest.Fake
	logs   *logBuffer
	host   *Host // after run

	instance *instance // its launcher
}

func (m *machine) setup() *setup {
	m.t.Helper()
	sealed, err := stateKey.Seal(chain1, hostlink.Record{Seq: 1, Time: time.Unix(1, 0)})
	if err != nil {
		m.t.Fatal(err)
	}
	first, err := hostlink.HostMark(sealed)
	if err != nil {
		m.t.Fatal(err)
	}
	s := &setup{w: &witness{wake: make(chan struct{})}, fake: storetest.NewFake(first), logs: &logBuffer{}}
	s.instance = &instance{dir: m.dir, Launcher: &nitrohost.Launcher{Path: m.cli, Name: ourName, EIF: "/images/our.eif", MemoryMiB: 64, CPUs: 2, Want: ourImage}}
	s.config = Config{
		Launcher: s.instance, Policy: ourPolicy, LogLevel: "info", Restart: "`privyseal nitro stop`",
		KMS:    &KMS{Endpoint: policy.Endpoint{Service: "KMS", Address: "127.0.0.1:1", Test: true}, Credentials: fixed(time.Time{})},
		Chains: []Chain{{ID: chain1, Wrapped: []byte("wrapped"), Identity: []byte("identity"), Store: s.fake, Observer: s.w}},
		Log:    slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return s
}

// run runs the host until stop is called, which returns what Run returned.
func (s *setup) run(t *testing.T, p pace) (stop func() error) {
	t.Helper()
	h, err := newHost(s.config, p)
	if err != nil {
		t.Fatal(err)
	}
	s.host = h
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			return errors.New("Run does not end")
		}
	})
	t.Cleanup(func() { stop() })
	return stop
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
