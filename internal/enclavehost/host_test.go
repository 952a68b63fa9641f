package enclavehost

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/hostlink"
	"privyseal/internal/nitrohost"
	"privyseal/internal/secret"
	"privyseal/internal/watermark"
)

const launchCall = "run-enclave --eif-path /images/our.eif --memory 64 --cpu-count 2 --enclave-name privyseal-main"

func TestLaunchAndBoot(t *testing.T) {
	m := newMachine(t)
	boots := make(chan *hostlink.Boot, 10)
	m.guestsAre(func(g *guest) { g.boots = boots })
	s := m.setup()
	s.config.Chains[0].Nodes = []Node{{Name: "a", Addr: "tcp://127.0.0.1:1", Network: "tcp", Address: "127.0.0.1:1"}}
	s.config.Chains[0].HeightBurst = 7
	stop := s.run(t, quick)
	s.w.signs(t)
	want := &hostlink.Boot{
		Credentials: hostlink.Credentials{AccessKeyID: "AKIA-TEST", SecretAccessKey: secret.New("s3cr3t-access"), SessionToken: secret.New("s3cr3t-session")},
		Chains: []hostlink.BootChain{{
			ID: "chain-1", Wrapped: []byte("wrapped"), Identity: []byte("identity"), HeightBurst: 7,
			Nodes: []hostlink.BootNode{{Name: "a", Addr: "tcp://127.0.0.1:1"}},
		}},
		LogLevel: "info",
	}
	if diff := cmp.Diff(want, <-boots); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// SIGTERM: the enclave stays.
	if err := stop(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{launchCall}, m.commands()); diff != "" {
		t.Errorf("nitro-cli: -want +got\n%s", diff)
	}
	if log := s.logs.String(); strings.Contains(log, "s3cr3t") || !strings.Contains(log, "launched the enclave") {
		t.Errorf("the log:\n%s", log)
	}

	// The next host finds it and boots it again.
	again := m.setup()
	stop = again.run(t, quick)
	again.w.signs(t)
	if diff := cmp.Diff(want.Chains[0].Wrapped, (<-boots).Chains[0].Wrapped); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := stop(); err != nil || len(m.commands()) != 1 || len(m.guests()) != 1 {
		t.Errorf("%v; nitro-cli was called with %q", err, m.commands())
	}
}

func TestStopEnclave(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.StopEnclave, s.instance.CID = true, 20
	stop := s.run(t, quick)
	s.w.signs(t)
	if err := stop(); err != nil {
		t.Error(err)
	}
	want := []string{launchCall + " --enclave-cid 20", "terminate-enclave --enclave-id i-0-enc1"}
	if diff := cmp.Diff(want, m.commands()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What is not ours is left alone, with StopEnclave too, and that is reported.
func TestForeignEnclaves(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []guest
		cid  uint32
		want string
	}{
		{"our name, another image", []guest{{name: ourName, image: otherImage}}, 0, "runs another image"},
		{"our name, one PCR differs", []guest{{name: ourName, image: nitrohost.Measurements{PCR0: ourImage.PCR0, PCR1: ourImage.PCR1, PCR2: otherImage.PCR2}}}, 0, "runs another image"},
		{"our name, debug mode", []guest{{name: ourName, image: ourImage, flags: "DEBUG_MODE"}}, 0, "debug mode"},
		{"our name, no measurements", []guest{{name: ourName}}, 0, "version 1.2"},
		{"our name, another CID", []guest{{name: ourName, image: ourImage, cid: 40}}, 41, "runs with CID 40"},
		{"our name twice", []guest{{name: ourName, image: ourImage, cid: 40}, {name: ourName, image: ourImage, cid: 41}}, 0, "are both called"},
		{"our CID", []guest{{name: "somebody's", image: ourImage, cid: 40}}, 40, "CID 40 belongs to"},
		{"on its way out", []guest{{name: ourName, image: ourImage, state: "TERMINATING"}}, 0, "waiting for it to end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			for i := range c.in {
				g := &c.in[i]
				g.m, g.id = m, fmt.Sprint("foreign-", i)
				g.cid = max(g.cid, 30)
				if g.state == "" {
					g.state = "RUNNING"
				}
				if g.flags == "" {
					g.flags = "NONE"
				}
				g.boots = make(chan *hostlink.Boot, 10)
				m.runs(g)
			}
			s := m.setup()
			s.instance.CID, s.config.StopEnclave = c.cid, true
			stop := s.run(t, quick)
			s.w.says(t, c.want)
			calls := 0
			m.until("it looks again", func() bool {
				if calls == 0 {
					calls = len(m.calls)
				}
				return len(m.calls) > calls+2
			})
			if err := stop(); err != nil {
				t.Error(err)
			}
			if calls := m.commands(); calls != nil || len(m.guests()) != len(c.in) {
				t.Errorf("nitro-cli was called with %q", calls)
			}
			for _, g := range m.guests() {
				if len(g.boots) > 0 {
					t.Errorf("%s was booted", g.id)
				}
			}
		})
	}
}

// An enclave of somebody else does not keep ours from running.
func TestOtherEnclavesRunBeside(t *testing.T) {
	m := newMachine(t)
	m.runs(&guest{m: m, id: "foreign", name: "somebody's", cid: 30, state: "RUNNING", flags: "NONE", image: ourImage})
	s := m.setup()
	stop := s.run(t, quick)
	s.w.signs(t)
	if err := stop(); err != nil || len(m.guests()) != 2 {
		t.Errorf("%v, %d enclaves", err, len(m.guests()))
	}
}

func TestImageExchangedAfterItWasMeasured(t *testing.T) {
	m := newMachine(t)
	m.imageIs(otherImage)
	s := m.setup()
	s.run(t, quick)
	s.w.says(t, "is not the one that was measured")
	if got := m.commands()[:2]; got[0] != launchCall || got[1] != "terminate-enclave --enclave-id i-0-enc1" {
		t.Errorf("nitro-cli was called with %q", got)
	}
}

func TestEnclaveDiesAndIsLaunchedAgain(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	ups := make(chan bool, 100)
	s.config.Up = func(up bool) { ups <- up }
	s.config.Chains[0].Nodes = []Node{{Name: "a", Addr: "unix:///x", Network: "unix", Address: "/x"}}
	s.run(t, quick)
	for life := range 4 {
		s.w.signs(t)
		if up := <-ups; !up {
			t.Error("up before it was")
		}
		m.guests()[0].kill()
		if up := <-ups; up {
			t.Error("no report that it is gone")
		}
		s.w.until(t, "the status shows the death", func() bool {
			n := 0
			for _, text := range s.w.status {
				if strings.Contains(text, "the enclave ended") {
					n++
				}
			}
			return n > life
		})
	}
	s.w.signs(t)
	s.w.until(t, "its nodes are reported as lost", func() bool { return len(s.w.nodes) >= 4 && s.w.nodes[0] == "a dialling" })
}

func TestAsk(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	req := hostlink.Request{Attest: &hostlink.Attest{ChainID: "chain-1", Nonce: []byte{1}}}
	h, err := New(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ask(t.Context(), req); err == nil || !strings.Contains(err.Error(), "privyseal status") {
		t.Errorf("before there is an enclave: %v", err)
	}
	m.guestsAre(func(g *guest) { g.document = []byte("document") })
	s.run(t, quick)
	s.w.signs(t)
	if reply, err := s.host.Ask(t.Context(), req); err != nil || string(reply.Document) != "document" {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := s.host.Ask(t.Context(), hostlink.Request{NewState: &hostlink.NewState{}}); err == nil {
		t.Error("the guest refused, and we did not")
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: time.Second, longest: 5 * time.Second}
	var got []time.Duration
	for range 6 {
		got = append(got, b.next())
	}
	b.reset()
	got = append(got, b.next(), b.next())
	s := time.Second
	if diff := cmp.Diff([]time.Duration{0, s, 2 * s, 4 * s, 5 * s, 5 * s, 0, s}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// An enclave that runs and says nothing is ended after a while.
func TestSilentEnclave(t *testing.T) {
	m := newMachine(t)
	m.guestsAre(func(g *guest) {
		if g.id == "i-0-enc1" {
			g.deaf = true
		}
	})
	s := m.setup()
	p := quick
	p.silence, p.patience = time.Second, time.Second
	s.run(t, p)
	s.w.signs(t)
	// On a busy machine the next one may seem silent too.
	want := []string{launchCall, "terminate-enclave --enclave-id i-0-enc1", launchCall}
	if diff := cmp.Diff(want, m.commands()[:3]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// vsock does not promise to report that the other side is gone.
func TestEnclaveDiesWithoutAWord(t *testing.T) {
	m := newMachine(t)
	m.guestsAre(func(g *guest) { g.deaf = g.id == "i-0-enc1" })
	s := m.setup()
	s.run(t, quick)
	m.until("the host asks whether it runs", func() bool { return len(m.calls) > 3 })
	m.mu.Lock()
	m.running = nil // its connections stay
	m.mu.Unlock()
	s.w.signs(t)
}

func TestAnotherPolicy(t *testing.T) {
	m := newMachine(t)
	boots := make(chan *hostlink.Boot, 10)
	m.guestsAre(func(g *guest) { g.policy, g.boots = [32]byte{9}, boots })
	s := m.setup()
	s.config.StopEnclave = true
	stop := s.run(t, quick)
	s.w.says(t, "another policy")
	if err := stop(); err != nil || len(boots) > 0 {
		t.Errorf("%v, %d boots: it was given credentials", err, len(boots))
	}
}

// What KMS refuses reaches the operator with its cure, and is tried again.
func TestChainThatCannotSign(t *testing.T) {
	m := newMachine(t)
	boots := 0
	m.guestsAre(func(g *guest) {
		g.answer = func(b *hostlink.Boot) hostlink.Reply {
			boots++
			s := &hostlink.Status{Boot: g.bootID, Policy: g.policy[:]}
			switch boots {
			case 1:
				return hostlink.Reply{Error: "not now", Cure: "wait"}
			case 2:
				s.Chains = []hostlink.ChainStatus{{ID: "chain-1", Problem: "KMS refuses PCR0", Cure: "name PCR0 in the key policy"}}
			case 3: // an answer about another chain
				s.Chains = []hostlink.ChainStatus{{ID: "chain-2"}}
			default:
				s.Chains = []hostlink.ChainStatus{{ID: "chain-1", KeyType: "tendermint/PubKeyEd25519", Public: []byte{9}}}
			}
			return hostlink.Reply{Status: s}
		}
	})
	s := m.setup()
	s.run(t, quick)
	s.w.signs(t)
	want := []string{
		"the enclave refuses: not now; wait",
		"the enclave refuses: KMS refuses PCR0\nname PCR0 in the key policy",
		"the enclave does not know the chain that it was booted with",
		"signs with tendermint/PubKeyEd25519 09",
	}
	if diff := cmp.Diff(want, s.w.status); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestMistakesInTheConfig(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.config.Chains = append(s.config.Chains, s.config.Chains[0])
	if _, err := New(s.config); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("a chain twice: %v", err)
	}
	s.config.Chains = nil
	if _, err := New(s.config); err == nil {
		t.Error("no chain")
	}
}

// A process on the instance holds the ports: the enclave is not touched.
func TestPortsAreTaken(t *testing.T) {
	m := newMachine(t)
	first := m.setup()
	first.run(t, quick)
	first.w.signs(t)
	second := m.setup()
	second.config.StopEnclave = true
	stop := second.run(t, quick)
	second.w.says(t, "is another privyseal running on this instance?")
	if err := stop(); err != nil || len(m.commands()) != 1 {
		t.Errorf("%v; nitro-cli was called with %q", err, m.commands())
	}
}

// Without the right to the ports no enclave is launched, which nobody could serve,
// and no other process is blamed.
func TestWithoutTheCapability(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.instance.mayServe = fmt.Errorf("cannot serve the enclave: ports below 1024: %w", syscall.EACCES)
	stop := s.run(t, quick)
	s.w.says(t, "permission denied")
	if err := stop(); err != nil || len(m.commands()) != 0 {
		t.Errorf("%v; nitro-cli was called with %q", err, m.commands())
	}
	if diff := cmp.Diff([]string{"cannot serve the enclave: ports below 1024: permission denied"}, s.w.status); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Another process is asked for only where a port is taken.
func TestPortsCannotBeServed(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	s.instance.dir = filepath.Join(m.dir, "none")
	stop := s.run(t, quick)
	s.w.says(t, "no such file")
	if err := stop(); err != nil || strings.Contains(strings.Join(s.w.status, "\n"), "another privyseal") {
		t.Errorf("%v; %q", err, s.w.status)
	}
}

// A renewed certificate of etcd goes to the enclave soon; one that cannot be read, or that
// the enclave does not take, leaves it alone. At the first boot both are why nothing is
// signed.
func TestCertificateIsRenewed(t *testing.T) {
	m := newMachine(t)
	boots := make(chan *hostlink.Boot, 100)
	m.guestsAre(func(g *guest) {
		g.boots = boots
		g.answer = func(b *hostlink.Boot) hostlink.Reply {
			if string(b.Etcd.Certificate) == "of another key" {
				return hostlink.Reply{Error: "not one of the client key"}
			}
			return hostlink.Reply{Status: &hostlink.Status{Boot: g.bootID, Policy: g.policy[:],
				Chains: []hostlink.ChainStatus{{ID: "chain-1", KeyType: "tendermint/PubKeyEd25519", Public: []byte{9}}}}}
		}
	})
	var text atomic.Pointer[string]
	read := make(chan string, 1<<16)
	say := func(s string) { text.Store(&s) }
	say("")
	s := m.setup()
	s.config.Etcd = &Etcd{Endpoints: []string{"https://10.0.0.1:2379"}, Try: time.Millisecond, Key: []byte("wrapped"), Certificate: func() ([]byte, error) {
		now := *text.Load()
		read <- now
		if now == "" {
			return nil, errors.New("no certificate is there")
		}
		return []byte(now), nil
	}}
	until := func(want string) {
		for now := range read {
			if now == want {
				return
			}
		}
	}
	booted := func(want string) {
		t.Helper()
		for range 3 { // at a poll, for the boot, and at the next poll
			until(want)
		}
		if len(boots) == 0 {
			t.Fatalf("not booted with %s", want)
		}
		b := <-boots
		if b.Etcd == nil || string(b.Etcd.Certificate) != want || string(b.Etcd.Key) != "wrapped" || len(b.Etcd.Endpoints) != 1 || b.Etcd.Try != time.Millisecond {
			t.Errorf("booted with %+v, not %s", b.Etcd, want)
		}
	}
	s.run(t, quick)
	s.w.says(t, "no certificate is there")
	say("of another key")
	s.w.says(t, "not one of the client key")
	say("first")
	s.w.signs(t)
	for b := range boots {
		if string(b.Etcd.Certificate) == "first" {
			break
		}
	}
	say("")
	for range 3 {
		until("")
	}
	say("of another key")
	booted("of another key")
	say("second")
	booted("second")
	for range 3 {
		until("second")
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if last := s.w.status[len(s.w.status)-1]; !strings.HasPrefix(last, "signs with") || len(boots) > 0 {
		t.Errorf("the status is %q, and there were %d more boots", last, len(boots))
	}
	if log := s.logs.String(); strings.Count(log, "goes on with the certificate of etcd that it has") != 1 || strings.Count(log, "going on with the last one") != 1 {
		t.Errorf("the log:\n%s", log)
	}
}

// A chain whose records the enclave calls otherwise, as those of a floor, has them under
// that name, and under no other.
func TestStateOfAnotherName(t *testing.T) {
	m := newMachine(t)
	s := m.setup()
	floor := watermark.ID{ChainID: "chain-1", Key: [32]byte{6}}
	s.config.Chains[0].StateID = floor
	h, err := newHost(s.config, quick)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.states) != 1 || h.states[floor] == nil || h.states[floor].ID != floor {
		t.Errorf("the states are %v", h.states)
	}
}
