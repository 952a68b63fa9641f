package monitor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/cure"
	"privyseal/internal/oplog"
	"privyseal/internal/privval"
	"privyseal/internal/session"
	"privyseal/internal/signer"
	"privyseal/internal/watermark"
)

// syncBuffer is a log's reader.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func prevote(height int64, block byte) *privval.Request {
	return &privval.Request{
		Kind: privval.KindPrevote, ChainID: "chain-1", Height: height,
		BlockID: privval.BlockID{Hash: bytes.Repeat([]byte{block}, 32), PartsTotal: 1, PartsHash: bytes.Repeat([]byte{block}, 32)},
	}
}

func markOf(r *privval.Request) watermark.Mark {
	return watermark.Mark{Height: r.Height, Step: watermark.StepPrevote, SignBytes: r.SignBytes()}
}

func signedEvent(height int64) signer.Event {
	req := prevote(height, 0xAA)
	return signer.Event{Node: "a", Request: req, Mark: markOf(req), Store: time.Millisecond, All: 2 * time.Millisecond}
}

func refusedEvent(node string) signer.Event {
	last, req := prevote(7, 0xAA), prevote(7, 0xBB)
	_, _, err := watermark.Next(markOf(last), markOf(req))
	return signer.Event{Node: node, Request: req, Mark: markOf(req), Err: err, Reason: "conflict_same_node"}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// What an enclave reports counts like what is decided here.
func TestOutcomesFromElsewhere(t *testing.T) {
	var here, elsewhere [2]string
	for i, seen := range []*[2]string{&here, &elsewhere} {
		var log syncBuffer
		m := New(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), "v1")
		c := m.AddChain("chain-1", "chain-1")
		for _, e := range []signer.Event{signedEvent(7), refusedEvent("a")} {
			if i == 0 {
				c.Observe(e)
				continue
			}
			c.Note(Outcome{Node: e.Node, Kind: e.Request.Kind.String(), Mark: e.Mark, Reason: e.Reason, Err: e.Err, Fault: signer.FaultOf(e.Err), Store: e.Store, All: e.All})
		}
		_, metrics := get(t, m.Handler(), "/metrics")
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "privyseal_") && !strings.Contains(line, "timestamp") {
				seen[0] += line
			}
		}
		seen[1] = regexp.MustCompile(`time=\S+ `).ReplaceAllString(log.String(), "")
	}
	if diff := cmp.Diff(here, elsewhere); diff != "" || here[1] == "" {
		t.Errorf("-here +elsewhere\n%s", diff)
	}
}

// What of a state has to be done by an operator stands in the status until a mark was durable
// again, or the chain is opened again. All else is over when it is over.
func TestStateThatWaits(t *testing.T) {
	m := New(slog.New(slog.DiscardHandler), "v1")
	c := m.AddChain("chain-1", "chain-1")
	ready := func() { c.Ready(Key{Public: "k"}, func() watermark.Saved { return watermark.Saved{} }) }
	fails := func(fault signer.Fault, text string) func() {
		return func() {
			o := Outcome{Node: "a", Kind: "prevote", Fault: fault, StoreErrors: 1}
			if text != "" {
				o.Err = errors.New(text)
			}
			c.Note(o)
		}
	}
	signs := func(repeated bool) func() {
		return func() {
			c.Note(Outcome{Node: "a", Kind: "prevote", Mark: watermark.Mark{Height: 7, Step: watermark.StepPrevote}, Repeated: repeated})
		}
	}
	ready()
	for _, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"a member does not answer", fails(signer.StoreFault, "no answer"), ""},
		{"a key waits for somebody", fails(signer.KeyFault, "it is locked\nunlock it"), ""},
		{"the mark was restored", fails(signer.StoreFault, "it was restored\nadopt it"), "it was restored\nadopt it"},
		{"then nobody answers", fails(signer.StoreFault, "no answer"), "it was restored\nadopt it"},
		{"a vote is asked for again", signs(true), "it was restored\nadopt it"},
		{"something else is found", fails(signer.StoreFault, "it was exported\nimport it"), "it was exported\nimport it"},
		{"a try failed, and the next one did not", func() { signs(false)(); fails("", "")() }, ""},
		{"again", fails(signer.StoreFault, "it was restored\nadopt it"), "it was restored\nadopt it"},
		{"it is opened again", ready, ""},
		{"once more", fails(signer.StoreFault, "it was restored\nadopt it"), "it was restored\nadopt it"},
		{"it ends", func() { c.Failed(errors.New("gone")) }, "gone"},
		{"it is opened after that", ready, ""},
	} {
		step.do()
		if is := m.Snapshot().Ready; is != (step.want == "") {
			t.Errorf("%s: the signer is ready: %v", step.what, is)
		}
		s := m.Snapshot().Chains[0]
		if s.Problem != step.want || s.Ready != (step.want != "gone") {
			t.Errorf("%s: %q, ready %v", step.what, s.Problem, s.Ready)
		}
	}
}

// An enclave that was launched again counts once more.
func TestEnclaveMetrics(t *testing.T) {
	m := New(slog.New(slog.DiscardHandler), "v1")
	up := m.Enclave("main")
	for _, is := range []bool{true, false, true, false} {
		up(is)
	}
	_, text := get(t, m.Handler(), "/metrics")
	for _, want := range []string{`privyseal_enclave_up{enclave="main"} 0`, `privyseal_enclave_starts_total{enclave="main"} 2`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}

// Ready means that every chain can sign and every node is connected. A node
// that has another signer, and so leaves us parked, counts.
func TestReady(t *testing.T) {
	m := New(slog.New(slog.DiscardHandler), "v1")
	ready := func(want int) {
		t.Helper()
		if code, body := get(t, m.Handler(), "/readyz"); code != want {
			t.Errorf("/readyz: %d, want %d:\n%s", code, want, body)
		}
	}
	ready(http.StatusServiceUnavailable) // no chain at all
	c := m.AddChain("chain-1", "chain-1")
	changed := c.AddNode("a", "unix:///a")
	changed(session.Parked, nil)
	ready(http.StatusServiceUnavailable)
	c.Ready(testKey, func() watermark.Saved { return watermark.Saved{} })
	ready(http.StatusOK)
	changed(session.Dialling, errors.New("connection refused"))
	ready(http.StatusServiceUnavailable)
	changed(session.Parked, nil)
	c.Failed(errors.New("the state is missing"))
	ready(http.StatusServiceUnavailable)
	if code, body := get(t, m.Handler(), "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
}

func TestStatusSocket(t *testing.T) {
	for name, home := range map[string]string{
		"short": t.TempDir(),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("a-folder-with-a-long-name/", 5)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(home, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadSnapshot(t.Context(), home); !errors.Is(err, ErrNotRunning) {
				t.Errorf("without a signer: %v", err)
			}
			// A killed signer leaves its socket behind.
			stale, err := ListenStatus(home)
			if err != nil {
				t.Fatal(err)
			}
			stale.(*statusListener).UnixListener.Close()
			if _, err := ReadSnapshot(t.Context(), home); !errors.Is(err, ErrNotRunning) {
				t.Errorf("after a crash: %v", err)
			}

			l, err := ListenStatus(home)
			if err != nil {
				t.Fatal(err)
			}
			socket := filepath.Join(home, SocketName)
			if info, err := os.Stat(socket); err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			m := New(slog.New(slog.DiscardHandler), "v1")
			c := m.AddChain("chain-1", "chain-1")
			changed := c.AddNode("a", "unix:///a")
			c.Ready(testKey, func() watermark.Saved { return watermark.Saved{Mark: watermark.Floor(41), Time: time.Unix(1, 0)} })
			changed(session.Serving, nil)
			c.Observe(signedEvent(42))
			c.Observe(refusedEvent("a"))

			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error)
			go func() { served <- m.ServeStatus(ctx, l) }()
			s, err := ReadSnapshot(t.Context(), home)
			if err != nil {
				t.Fatal(err)
			}
			got := s.Chains[0]
			if !s.Ready || got.Height != 41 || got.Signed.Node != "a" || got.Nodes[0].State != "serving" || got.LastRefusal.Reason != "conflict_same_node" {
				t.Errorf("snapshot %+v", s)
			}
			if _, err := ListenStatus(home); err == nil || !strings.Contains(err.Error(), "another signer answers") {
				t.Errorf("a second signer in one home: %v", err)
			}
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket stays behind: %v", err)
			}
		})
	}
}

// An operator sees at a glance what contradicts what, and how bad it is.
func TestRefusalInLog(t *testing.T) {
	var log syncBuffer
	logger := oplog.New(&log, slog.LevelInfo, "journald")
	c := New(logger.Logger, "v1").AddChain("chain-1", "chain-1")
	c.Observe(refusedEvent("a"))
	other := refusedEvent("b")
	other.Reason = "conflict_other_node"
	c.Observe(other)
	c.Observe(signedEvent(8)) // debug
	logger.Close()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "<3>msg=") || !strings.HasPrefix(lines[1], "<4>msg=") {
		t.Fatalf("log:\n%s", log.String())
	}
	for _, want := range []string{`chain_id=chain-1`, `node=a`, `reason=conflict_same_node`, `asked="7/0/prevote block BBBBBBBBBBBB"`, `mark="7/0/prevote block AAAAAAAAAAAA"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
}

// A reason is said once: beside its text, not in it.
func TestRefusalIsSaidOnce(t *testing.T) {
	for _, tt := range []struct{ reason, text, want string }{
		{"wrong_chain", `refused: wrong_chain: asked for chain "b", this connection is for "a"`, `asked for chain "b", this connection is for "a"`},
		{"conflict_same_node", "refused: conflict: asked for 7/0/prevote, the mark is at 7/0/prevote", "asked for 7/0/prevote, the mark is at 7/0/prevote"},
		{"height_regression_other_node", "refused: height_regression: asked for 6/0/prevote, the mark is at 7/0/prevote", "asked for 6/0/prevote, the mark is at 7/0/prevote"},
		{"other", "refused: tomorrow: a text", "refused: tomorrow: a text"},
	} {
		m, c := newTestChain("a", "a", watermark.Saved{})
		c.Note(Outcome{Node: "a", Kind: "prevote", Reason: tt.reason, Err: errors.New(tt.text)})
		if got := m.Snapshot().Chains[0].LastRefusal; got.Text != tt.want || got.Reason != tt.reason {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}

// Why a chain cannot sign is written once: by the process that goes on without it. One
// that ends has it in its error.
func TestFailedIsSaidOnce(t *testing.T) {
	var log syncBuffer
	m := New(slog.New(slog.NewTextHandler(&log, nil)), "v1")
	early, late := m.AddChain("early", "early"), m.AddChain("late", "late")
	early.Failed(cure.Add(errors.New("no key"), "make one"))
	if log.String() != "" || m.Snapshot().Chains[0].Problem != "no key\nmake one" {
		t.Errorf("before it is clear whether the process goes on: %s%+v", log.String(), m.Snapshot())
	}
	m.Opened()
	late.Failed(errors.New("no state"))
	lines := strings.Split(strings.TrimSpace(regexp.MustCompile(`time=\S+ `).ReplaceAllString(log.String(), "")), "\n")
	want := []string{
		`level=ERROR msg="this chain cannot sign" chain_id=early error="no key" next="make one"`,
		`level=ERROR msg="this chain cannot sign" chain_id=late error="no state"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
