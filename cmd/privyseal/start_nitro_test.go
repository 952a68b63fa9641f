package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"privyseal/internal/command"
	"privyseal/internal/config"
	"privyseal/internal/eif"
	"privyseal/internal/filestore"
	"privyseal/internal/hostlink"
	"privyseal/internal/monitor"
	opsnitro "privyseal/internal/ops/nitro"
	"privyseal/internal/ops/nitro/image"
	"privyseal/internal/policy"
	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/vsock"
	"privyseal/internal/watermark"
	"privyseal/test/e2e/rig"
)

// Here an enclave's end of hostlink is played, and nitro-cli with it, so that what
// `privyseal start` does around them is seen. The enclave itself, in a virtual
// machine: test/nitro.

const nitroCLISocket = "PRIVYSEAL_TEST_NITRO_CLI"

// nitroCLI hands its arguments to a test and prints what that answers.
func nitroCLI() {
	conn, err := net.Dial("unix", os.Getenv(nitroCLISocket))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	var answer string
	if err := errors.Join(json.NewEncoder(conn).Encode(os.Args[1:]), json.NewDecoder(conn).Decode(&answer)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}
	fmt.Print(answer)
}

const testKMSKey = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-0000-0000-000000000000"

// nitroInstance is an instance with at most one enclave.
type nitroInstance struct {
	t      *testing.T
	dir    string // of the unix sockets
	image  *eif.Image
	digest [32]byte
	public pubkey.Key

	mu    sync.Mutex
	guest *nitroGuest
	calls []string // nitro-cli, descriptions aside
}

type nitroGuest struct {
	in    *nitroInstance
	id    string
	cid   uint32
	debug bool
	ctx   context.Context
	kill  context.CancelFunc
}

func newNitroInstance(t *testing.T, dir string, im *eif.Image, public pubkey.Key) *nitroInstance {
	p, err := image.Policy(im)
	if err != nil || p == nil {
		t.Fatalf("the image has no policy: %v", err)
	}
	in := &nitroInstance{t: t, dir: dir, image: im, public: public}
	encoded, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	in.digest = sha256.Sum256(encoded)
	l, err := net.Listen("unix", filepath.Join(dir, "cli"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(nitroCLISocket, l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var args []string
			if json.NewDecoder(conn).Decode(&args) == nil {
				json.NewEncoder(conn).Encode(in.command(args))
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		in.kill()
	})
	return in
}

func (in *nitroInstance) command(args []string) string {
	in.mu.Lock()
	defer in.mu.Unlock()
	if slices.Contains(args, "i-0-enc0") || slices.Contains(args, "/nothing") {
		return "" // a capture asks for nobody
	}
	if args[0] != "describe-enclaves" && args[0] != "--version" {
		in.calls = append(in.calls, strings.Join(args, " "))
	}
	g := in.guest
	switch args[0] {
	case "run-enclave":
		g = &nitroGuest{in: in, id: fmt.Sprintf("i-0-enc%d", len(in.calls)), cid: uint32(20 + len(in.calls)), debug: slices.Contains(args, "--debug-mode")}
		g.ctx, g.kill = context.WithCancel(context.Background())
		g.boot()
		in.guest = g
		return fmt.Sprintf(`{"EnclaveID": %q, "EnclaveCID": %d}`, g.id, g.cid)
	case "terminate-enclave":
		g.kill()
		in.guest = nil
		return fmt.Sprintf(`{"EnclaveID": %q, "Terminated": true}`, g.id)
	case "console":
		return "booting\n"
	}
	if g == nil {
		return "[]\n"
	}
	m := in.image.Measure()
	flags := map[bool]string{false: "NONE", true: "DEBUG_MODE"}[g.debug]
	return fmt.Sprintf(`[{"EnclaveName": "privyseal-main", "EnclaveID": %q, "EnclaveCID": %d, "State": "RUNNING", "Flags": %q, "Measurements": {"PCR0": %q, "PCR1": %q, "PCR2": %q}}]`+"\n",
		g.id, g.cid, flags, m.PCR0, m.PCR1, m.PCR2)
}

// kill ends the enclave as kill -9 does.
func (in *nitroInstance) kill() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.guest != nil {
		in.guest.kill()
		in.guest = nil
	}
}

func (in *nitroInstance) commands() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.calls)
}

// boot listens as the monitor of the guest does.
func (g *nitroGuest) boot() {
	l, err := net.Listen("unix", g.host().Base())
	if err != nil {
		g.in.t.Errorf("the monitor cannot listen: %v", err)
		return
	}
	context.AfterFunc(g.ctx, func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go g.control(conn)
		}
	}()
}

func (g *nitroGuest) host() vsock.Host { return vsock.Host{CID: g.cid, Dir: g.in.dir} }

func (g *nitroGuest) control(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(g.ctx, func() { conn.Close() })()
	r := bufio.NewReaderSize(conn, 16)
	if _, err := r.ReadString('\n'); err != nil {
		return
	}
	io.WriteString(conn, "OK 1\n")
	for {
		raw, err := hostlink.ReadRawRequest(r)
		if err != nil {
			return
		}
		req, err := raw.Decode()
		if err != nil {
			return
		}
		reply := hostlink.Reply{Status: &hostlink.Status{Version: "test", Boot: fmt.Sprintf("%032x", g.cid), Policy: g.in.digest[:]}}
		switch {
		case req.Boot != nil:
			reply.Status.Chains = []hostlink.ChainStatus{{ID: "chain-n", KeyType: string(g.in.public.Type()), Public: g.in.public.Bytes()}}
			go g.sign()
		case req.Sample != nil:
			return // an enclave of an earlier version cannot read the request
		case req.Attest != nil:
			reply = hostlink.Reply{Document: []byte("document about " + req.Attest.ChainID + string(req.Attest.Nonce))}
		}
		if err := hostlink.WriteReply(conn, reply); err != nil {
			return
		}
	}
}

// sign does what an enclave does after it was booted: it raises its state, opens
// its node, and reports.
func (g *nitroGuest) sign() {
	dial := func(ctx context.Context, port uint32) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("%s_%d", g.host().Base(), port))
		if err == nil {
			context.AfterFunc(g.ctx, func() { conn.Close() })
		}
		return conn, err
	}
	store := &hostlink.Store{
		Dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, hostlink.StatePort) },
		ID:   watermark.ID{ChainID: "chain-n", Key: g.in.public.ID()}, Key: hostlink.Key{1}, Boot: [16]byte{byte(g.cid)},
	}
	saved, err := store.Load(g.ctx)
	if err == nil {
		m := watermark.Mark{Height: saved.Mark.Height + 1, Step: watermark.StepPrevote, SignBytes: []byte{1}}
		saved, err = store.Replace(g.ctx, saved, m)
	}
	logs, logErr := dial(g.ctx, hostlink.LogPort)
	node, nodeErr := dial(g.ctx, hostlink.NodePort)
	if err := errors.Join(err, logErr, nodeErr); err != nil {
		g.in.t.Errorf("inside: %v", err)
		return
	}
	if err := hostlink.OpenNode(node, hostlink.NodeHello{ChainID: "chain-n", Node: "node1"}); err != nil {
		g.in.t.Errorf("inside: %v", err)
	}
	for _, l := range []hostlink.Line{
		{Log: &hostlink.LogRecord{Message: "hello from inside"}},
		{Event: &hostlink.Event{ChainID: "chain-n", Node: "node1", Kind: "prevote", Height: saved.Mark.Height, Step: 2, All: time.Millisecond}},
		{Event: &hostlink.Event{ChainID: "chain-n", Node: "node1", Kind: "prevote", Height: 1, Reason: "height_regression_same_node", Error: "refused"}},
	} {
		b, err := l.Encode()
		if err == nil {
			_, err = logs.Write(b)
		}
		if errors.Is(err, syscall.EPIPE) {
			return // the host has been stopped; what a test waits for, it looks for
		}
		if err != nil {
			g.in.t.Errorf("inside: %v", err)
		}
	}
}

// nitroHome makes a home folder with a chain in an enclave and one that is not.
func nitroHome(t *testing.T, cfg func(*config.Config)) (home string, in *nitroInstance) {
	t.Helper()
	dir := diskDir(t)
	home, sockets := filepath.Join(dir, "home"), filepath.Join(dir, "v")
	check := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(sockets, 0o700))
	for _, name := range []string{"s", "n"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		check(err)
		t.Cleanup(func() { l.Close() }) // whoever connects is parked
	}
	runCommand(t, "privyseal", "init", "--home", home, "--chain-id", "chain-s", "--node", "unix://"+filepath.Join(dir, "s"))

	p, err := policy.ForAWS(testKMSKey, false)
	check(err)
	second, err := image.PolicyRamdisk(p)
	check(err)
	first, err := eif.ProgramRamdisk([]byte("program"), nil)
	check(err)
	im, err := eif.Build(eif.Source{Arch: eif.AMD64, Kernel: []byte("kernel"), Cmdline: image.Cmdlines()[eif.AMD64], Ramdisks: [][]byte{first, second}})
	check(err, os.WriteFile(filepath.Join(home, "our.eif"), im.Encode(), 0o600))

	raw, _, err := ed25519.GenerateKey(nil)
	check(err)
	public, err := pubkey.New(pubkey.Ed25519, raw)
	check(err)
	wrapped := []byte("privyseal wrapped key 1\n")
	for _, field := range []string{testKMSKey, "chain-n", string(public.Type()), string(public.Bytes()), "data key", strings.Repeat("s", 100)} {
		wrapped = append(binary.BigEndian.AppendUint16(wrapped, uint16(len(field))), field...)
	}
	check(os.WriteFile(filepath.Join(home, "chain-n.wrapped"), wrapped, 0o600))
	id := watermark.ID{ChainID: "chain-n", Key: public.ID()}
	sealed, err := hostlink.Key{1}.Seal(id, hostlink.Record{Seq: 1, Time: time.Now()})
	check(err)
	mark, err := hostlink.HostMark(sealed)
	check(err, filestore.Create(filestore.Config{Path: filepath.Join(home, "state/chain-n.mark"), ID: id}, watermark.Saved{Mark: mark}))

	path := filepath.Join(home, config.FileName)
	c, err := build().House("").Kinds.Load(path)
	check(err)
	ch := config.NewChain("chain-n", "")
	ch.Provider, ch.Table, ch.Key = "nitro", "main", "chain-n.wrapped"
	ch.Nodes = []config.Node{{Name: "node1", Addr: "unix://" + filepath.Join(dir, "n")}}
	c.Chains = append(c.Chains, ch)
	e := opsnitro.Enclave{EIF: "our.eif"}
	e.Fill(func(string) bool { return false })
	e.Transport, e.NitroCLI = sockets, "nitro-cli-by-hand"
	e.Credentials = opsnitro.Credentials{AccessKeyID: "AKIA-TEST", SecretAccessKey: secret.New("s3cr3t")}
	c.Tables = map[string]map[string]config.Section{"enclave": {"main": &e}}
	c.Listen = ""
	if cfg != nil {
		cfg(c)
	}
	check(os.WriteFile(path, c.Render(), 0o600))
	return home, newNitroInstance(t, sockets, im, public)
}

// untilStatus waits until the signer's status is as f wants it.
func untilStatus(t *testing.T, home, what string, f func(monitor.Snapshot) bool) monitor.Snapshot {
	t.Helper()
	var s monitor.Snapshot
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, err = monitor.ReadSnapshot(t.Context(), home); err == nil && f(s) {
			return s
		}
	}
	t.Fatalf("never: %s: %+v, %v", what, s, err)
	return s
}

// freePort returns an address that nobody listens on, nor gets from the kernel meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// One process signs for a chain with a key file and for one in an enclave. The
// enclave dies and comes back; the host goes and finds it again.
func TestStartWithAnEnclave(t *testing.T) {
	listen := freePort(t)
	home, in := nitroHome(t, func(c *config.Config) { c.Listen = listen })
	p := startSigner(t, home)
	// Units that wait for us start when the enclave signs.
	if status := p.waitReady(t); status != "STATUS=2 of 2 chains can sign" {
		t.Errorf("systemd gets %q", status)
	}
	ready := func(height int64) func(monitor.Snapshot) bool {
		return func(s monitor.Snapshot) bool { return s.Ready && s.Chains[1].Height == height }
	}
	s := untilStatus(t, home, "both chains are ready", ready(1))
	if c := s.Chains[1]; c.PubKey != base64.StdEncoding.EncodeToString(in.public.Bytes()) || c.Step != "prevote" || c.Nodes[0].Name != "node1" {
		t.Errorf("status %+v", c)
	}
	s = untilStatus(t, home, "the node is served", func(s monitor.Snapshot) bool {
		return s.Chains[1].Nodes[0].State == "serving" && s.Chains[1].LastRefusal != nil
	})
	if r := s.Chains[1].LastRefusal; r.Reason != "height_regression_same_node" {
		t.Errorf("last refusal %+v", r)
	}
	if code, body := httpGet(t, "http://"+listen+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d\n%s", code, body)
	}
	_, metrics := httpGet(t, "http://"+listen+"/metrics")
	for _, want := range []string{
		`privyseal_enclave_up{enclave="main"} 1`, `privyseal_enclave_starts_total{enclave="main"} 1`, `privyseal_mark_height{chain_id="chain-n"} 1`,
		`privyseal_signed_total{chain_id="chain-n",kind="prevote"} 1`, `privyseal_refused_total{chain_id="chain-n",node="node1",reason="height_regression_same_node"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics has no %s", want)
		}
	}
	doc := runCommand(t, "privyseal", "nitro", "attest", "--home", home, "--chain-id", "chain-n", "--nonce", "6e")
	if want := base64.StdEncoding.EncodeToString([]byte("document about chain-nn")) + "\n"; doc != want {
		t.Errorf("attested %q", doc)
	}
	if out := runCommand(t, "privyseal", "nitro", "info", "--home", home); !json.Valid([]byte(out)) || !strings.Contains(out, "i-0-enc1") {
		t.Errorf("info: %s", out)
	}

	in.kill()
	untilStatus(t, home, "it is back", ready(2))
	if c := in.commands(); len(c) != 2 || !strings.HasPrefix(c[1], "run-enclave") || strings.Contains(strings.Join(c, " "), "debug") {
		t.Errorf("nitro-cli was called with %q", c)
	}

	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
	if strings.Contains(p.log.String(), "s3cr3t") || !strings.Contains(p.log.String(), "hello from inside") {
		t.Errorf("the log:\n%s", p.log)
	}
	p = startSigner(t, home)
	p.waitReady(t)
	untilStatus(t, home, "it was found again", ready(3))
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil || len(in.commands()) != 2 {
		t.Errorf("%v; nitro-cli was called with %q", err, in.commands())
	}
	if out := runCommand(t, "privyseal", "nitro", "stop", "--home", home); out != "privyseal-main ended: i-0-enc2\n" {
		t.Errorf("stop: %s", out)
	}
	if in.guest != nil {
		t.Error("it still runs")
	}
}

func TestNitroSingleSteps(t *testing.T) {
	home, in := nitroHome(t, nil)
	step := func(args ...string) (string, error) {
		root := command.NewRoot(build())
		var out strings.Builder
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append(args, "--home", home))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	for _, c := range []struct{ args, out, err string }{
		{"nitro stop", "", "no enclave privyseal-main runs here"},
		{"nitro console", "", "no enclave privyseal-main runs here"},
		{"nitro proxy", "", "launch it with"},
		{"nitro run", "privyseal-main launched: i-0-enc1, CID 21\n", ""},
		{"nitro run", "privyseal-main runs already: i-0-enc1, CID 21\n", ""},
		{"nitro run --debug", "", "runs already"},
		{"nitro console", "", "not in debug mode"},
		{"nitro stop --enclave other", "", "no [enclave.other]"},
		{"nitro capture " + home + "/seen", "17 records are in " + home + "/seen; manifest.json says of what\n", ""},
		{"nitro stop", "privyseal-main ended: i-0-enc1\n", ""},
		{"nitro run --debug", "privyseal-main launched in debug mode: i-0-enc3, CID 23\n", ""},
		{"nitro console", "booting\n", ""},
		{"nitro run", "", "debug mode"},
		{"nitro stop", "privyseal-main ended: i-0-enc3\n", ""},
		{"nitro info", "[]\n", ""},
	} {
		out, err := step(strings.Fields(c.args)...)
		if out != c.out || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.args, out, err)
		}
	}
	manifest, err := os.ReadFile(filepath.Join(home, "seen/manifest.json"))
	if err != nil || !strings.Contains(string(manifest), "no answer from the enclave: EOF; an enclave of an earlier version does not know the question") {
		t.Errorf("%v\n%s", err, manifest)
	}
	for _, call := range in.commands() {
		if strings.HasPrefix(call, "run-enclave") && strings.Contains(call, "debug") != (call == in.commands()[2]) {
			t.Errorf("nitro-cli was called with %q", call)
		}
	}
}

// What a chain lacks is reported, and the others sign.
func TestStartWithABrokenEnclave(t *testing.T) {
	home, in := nitroHome(t, nil)
	for what, want := range map[string][]string{
		"our.eif":            {"no such file", "build it again", "`eif` of [enclave.main]"},
		"chain-n.wrapped":    {"no such file", "named for the backup", "the validator needs a new one"},
		"state/chain-n.mark": {"no such file", "whose policy has a state_floor", "CHAIN=chain-n KEY=" + testKMSKey, "`systemctl stop privyseal-nitro`", "privyseal nitro stop --home " + home, "privyseal state init --home " + home + " --chain-id chain-n --after-height H`"},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(home, what)
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			defer os.Rename(path+".away", path)
			p := startSigner(t, home)
			p.waitReady(t)
			s := untilStatus(t, home, "the reason", func(s monitor.Snapshot) bool { return s.Chains[1].Problem != "" })
			if !s.Chains[0].Ready || s.Ready {
				t.Errorf("%+v", s)
			}
			for _, text := range want {
				if !strings.Contains(s.Chains[1].Problem, text) {
					t.Errorf("%q does not say %q", s.Chains[1].Problem, text)
				}
			}
			if strings.Contains(s.Chains[1].Problem, "--fresh-state") {
				t.Errorf("%q names what an enclave refuses", s.Chains[1].Problem)
			}
			p.cmd.Process.Signal(syscall.SIGTERM)
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, p.log)
			}
		})
	}
	if calls := in.commands(); calls != nil {
		t.Errorf("nitro-cli was called with %q", calls)
	}
}

// stop_enclave ends the enclave with the signer.
func TestStopEnclaveWithTheSigner(t *testing.T) {
	home, in := nitroHome(t, func(c *config.Config) {
		e := opsnitro.Enclaves(c)["main"]
		e.StopEnclave = true
		c.Tables = map[string]map[string]config.Section{"enclave": {"main": &e}}
	})
	p := startSigner(t, home)
	p.waitReady(t)
	untilStatus(t, home, "ready", func(s monitor.Snapshot) bool { return s.Ready })
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.log)
	}
	if calls := in.commands(); len(calls) != 2 || calls[1] != "terminate-enclave --enclave-id i-0-enc1" {
		t.Errorf("nitro-cli was called with %q", calls)
	}
}
