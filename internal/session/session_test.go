package session

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// wire is a session that serves one end of a pipe, whose other end is the
// node's. It lives in a synctest bubble: time passes when all wait.
type wire struct {
	t       *testing.T
	node    net.Conn
	in      *bufio.Reader
	s       *Session
	stop    context.CancelFunc // of the session
	handled []privval.Kind
	states  []State

	done   chan struct{}
	served bool
	err    error
	ended  time.Time
}

// echo answers each request with a signature of one byte.
func echo(_ context.Context, req *privval.Request) (privval.Response, error) {
	return privval.Response{Kind: req.Kind, Signature: []byte{1}}, nil
}

func connect(t *testing.T, s *Session) *wire {
	t.Helper()
	if s.Addr.Network == "" {
		s.Addr = Addr{Network: "unix", Address: "/node.sock"}
	}
	if s.Handle == nil {
		s.Handle = echo
	}
	ours, node := net.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	w := &wire{t: t, node: node, in: bufio.NewReader(node), s: s, stop: stop, done: make(chan struct{})}
	handle := s.Handle
	s.Handle = func(ctx context.Context, req *privval.Request) (privval.Response, error) {
		w.handled = append(w.handled, req.Kind)
		return handle(ctx, req)
	}
	s.Changed = func(state State, _ error) { w.states = append(w.states, state) }
	go func() {
		w.served, w.err = s.serve(ctx, ours)
		ours.Close() // as connect does
		w.ended = time.Now()
		close(w.done)
	}()
	t.Cleanup(stop)
	return w
}

func (w *wire) call(req privval.Request) privval.Response {
	w.t.Helper()
	resp, err := privvaltest.Call(w.node, w.in, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp
}

// endsWith waits for the session's end, and for its words on it.
func (w *wire) endsWith(want string) {
	w.t.Helper()
	<-w.done
	if w.err == nil || !strings.Contains(w.err.Error(), want) {
		w.t.Errorf("the session ended with %v, not %q", w.err, want)
	}
	if _, err := w.in.ReadByte(); err == nil {
		w.t.Error("something was said to the node at the end")
	}
}

func (w *wire) write(b ...byte) {
	w.t.Helper()
	if _, err := w.node.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

var (
	ping   = privval.Request{Kind: privval.KindPing}
	pubKey = privval.Request{Kind: privval.KindPubKey, ChainID: "chain-1"}
)

func frame(req privval.Request) []byte {
	return protowire.AppendBytes(nil, privvaltest.EncodeRequest(req))
}

// A second signer waits for days, and is there when it is needed.
func TestParkedForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := connect(t, &Session{})
		time.Sleep(72 * time.Hour)
		if resp := w.call(pubKey); resp.Kind != privval.KindPubKey {
			t.Errorf("got %+v", resp)
		}
		if len(w.states) != 1 || w.states[0] != Serving {
			t.Errorf("states %v", w.states)
		}
	})
}

// After its first request a node pings, or it is gone.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		name    string
		session Session
		asks    bool
		want    time.Duration
	}{
		{"after a request", Session{}, true, DefaultIdle},
		{"after a request, as configured", Session{Idle: time.Minute}, true, time.Minute},
		{"tcp, after the handshake", Session{Addr: Addr{Network: "tcp"}}, false, DefaultIdle},
		{"noise, after the handshake", Session{Addr: Addr{Network: "noise"}, Idle: 7 * time.Second}, false, 7 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &c.session)
			begin := time.Now()
			if c.asks {
				for range 100 {
					time.Sleep(3300 * time.Millisecond)
					w.call(ping)
				}
				begin = time.Now()
			}
			w.endsWith("was silent for too long")
			if took := w.ended.Sub(begin); took < c.want || took > c.want+slack || w.served != c.asks {
				t.Errorf("%s: ended after %v, served %v", c.name, took, w.served)
			}
		})
	}
}

// A message that stops half-way, or drips, ends soon, even the first one.
func TestHalfMessage(t *testing.T) {
	whole := frame(pubKey)
	for name, send := range map[string]func(w *wire){
		"one byte":           func(w *wire) { w.write(whole[0]) },
		"one byte less":      func(w *wire) { w.write(whole[:len(whole)-1]...) },
		"half of its length": func(w *wire) { w.write(0x80) },
		"only its length":    func(w *wire) { w.write(0xff, 0xff, 0x3f) },
		"a byte a second": func(w *wire) {
			for _, b := range whole {
				if _, err := w.node.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{})
			time.Sleep(time.Hour)
			begin := time.Now()
			send(w)
			w.endsWith("cannot serve unix:///node.sock:")
			if took := w.ended.Sub(begin); took != messageTimeout || len(w.handled) > 0 || w.served {
				t.Errorf("%s: ended after %v, %v", name, took, w.handled)
			}
		})
	}
}

// Garbage ends a connection at once, and is not shown to the handler.
func TestGarbage(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"a message over the limit", []byte{0x80, 0x80, 0x7f}, "the limit is"},
		{"a length without end", bytes.Repeat([]byte{0xff}, 4), "over the limit"},
		{"a length in long form", []byte{0x80, 0}, "not in the shortest form"},
		{"an empty message", []byte{0}, "a field is missing"},
		{"a message of no version", []byte{3, 0x6a, 1, 0}, "unknown here"},
		{"a reply", []byte{2, 0x42, 0}, "unknown here"},
		{"two requests in a frame", []byte{4, 0x3a, 0, 0x3a, 0}, "more than one message in a frame"},
		{"http", []byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.14.1 (a scanner)\r\n\r\n"), "cannot decode"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{})
			begin := time.Now()
			go w.node.Write(c.b) // what is left of it is not read
			w.endsWith(c.want)
			if took := w.ended.Sub(begin); took != 0 || len(w.handled) > 0 || w.served {
				t.Errorf("%s: ended after %v, %v", c.name, took, w.handled)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{})
			w.call(ping)
			go w.node.Write(c.b)
			w.endsWith(c.want)
			if !w.served {
				t.Errorf("%s: a node that was served was not served", c.name)
			}
		})
	}
}

// A request that cannot be signed is for the handler to refuse, and a refusal
// leaves the connection open.
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := connect(t, &Session{Handle: func(_ context.Context, req *privval.Request) (privval.Response, error) {
			if req.Invalid != nil {
				return privval.Response{Kind: req.Kind, Refused: req.Invalid.Error()}, nil
			}
			return privval.Response{Kind: req.Kind}, nil
		}})
		for range 3 {
			resp := w.call(privval.Request{Kind: privval.KindVote, ChainID: "chain-1"})
			if resp.Kind != privval.KindVote || !strings.Contains(resp.Refused, "type 0") {
				t.Errorf("got %+v", resp)
			}
			w.call(ping)
		}
	})
}

func TestHandlerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the store is away")
		w := connect(t, &Session{Handle: func(context.Context, *privval.Request) (privval.Response, error) {
			return privval.Response{Signature: []byte{1}}, cause
		}})
		if err := privvaltest.WriteRequest(w.node, pubKey); err != nil {
			t.Fatal(err)
		}
		w.endsWith("cannot answer unix:///node.sock: the store is away")
		if !errors.Is(w.err, cause) || !w.served {
			t.Errorf("served %v, %v", w.served, w.err)
		}
	})
}

// A handler that sits in a system call costs its own node one connection, four
// seconds after the request was read, and other nodes nothing.
func TestHandlerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var deadline time.Time
		hung := connect(t, &Session{Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
			deadline, _ = ctx.Deadline()
			<-free
			return echo(ctx, req)
		}})
		other := connect(t, &Session{})
		begin := time.Now()
		if err := privvaltest.WriteRequest(hung.node, pubKey); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		other.call(pubKey)
		if took := time.Since(begin); took != 0 {
			t.Errorf("the other node waited for %v", took)
		}
		if _, err := hung.in.ReadByte(); err != io.EOF {
			t.Errorf("the node read %v", err)
		}
		if took := time.Since(begin); took != AnswerTimeout || deadline.Sub(begin) != AnswerTimeout {
			t.Errorf("closed after %v, the handler's time was up after %v", took, deadline.Sub(begin))
		}
		other.call(pubKey)
		close(free)
		hung.endsWith("cannot answer")
	})
}

// A handler that keeps to its time is not cut off before.
func TestHandlerTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := connect(t, &Session{Idle: time.Second, Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
			time.Sleep(AnswerTimeout - time.Millisecond)
			return echo(ctx, req)
		}})
		for range 3 {
			w.call(pubKey)
		}
	})
}

// The end of the process lets what is in progress be answered, and nothing more.
func TestShutdown(t *testing.T) {
	t.Run("a request in work", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				time.Sleep(3 * time.Second)
				return privval.Response{Kind: req.Kind}, ctx.Err()
			}})
			begin := time.Now()
			time.AfterFunc(time.Second, w.stop)
			w.call(pubKey)
			<-w.done
			if took := w.ended.Sub(begin); took != 3*time.Second || w.err != nil || !w.served || len(w.handled) != 1 {
				t.Errorf("ended after %v: %v", took, w.err)
			}
		})
	})
	t.Run("a request behind it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				time.Sleep(time.Second)
				return privval.Response{Kind: req.Kind}, nil
			}})
			go w.node.Write(slices.Concat(frame(pubKey), frame(ping)))
			synctest.Wait()
			w.stop()
			if _, err := privval.ReadFrame(w.in, nil); err != nil {
				t.Error(err)
			}
			<-w.done
			if len(w.handled) != 1 {
				t.Errorf("handled %v", w.handled)
			}
		})
	})
	for name, before := range map[string]func(w *wire){
		"parked":         func(*wire) {},
		"serving":        func(w *wire) { w.call(ping) },
		"half a message": func(w *wire) { w.write(9, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := connect(t, &Session{})
				before(w)
				synctest.Wait()
				begin := time.Now()
				w.stop()
				<-w.done
				if took := w.ended.Sub(begin); took != 0 {
					t.Errorf("ended after %v: %v", took, w.err)
				}
			})
		})
	}
}

// The end of a process that serves lets what is in progress be answered, over the
// connection as Run has it.
func TestRunAnswersWhatIsInWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, node := net.Pipe()
		ctx, stop := context.WithCancel(t.Context())
		s := &Session{
			Addr: Addr{Network: "unix", Address: "/node.sock"},
			Dial: func(context.Context) (net.Conn, error) { return ours, nil },
			Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				stop()
				select {
				case <-ctx.Done():
					return privval.Response{}, ctx.Err()
				case <-time.After(3 * time.Second):
					return privval.Response{Kind: req.Kind}, nil
				}
			},
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx)
		}()
		if resp, err := privvaltest.Call(node, bufio.NewReader(node), pubKey); err != nil || resp.Kind != privval.KindPubKey {
			t.Errorf("got %+v, %v", resp, err)
		}
		<-done
	})
}

// The watchdog's timer runs for many requests: each is cut off four seconds after
// it was read, whenever that was.
func TestWatchdogOfEachRequest(t *testing.T) {
	for _, quiet := range []time.Duration{0, time.Second, AnswerTimeout - time.Millisecond, 2 * AnswerTimeout} {
		synctest.Test(t, func(t *testing.T) {
			free := make(chan struct{})
			hangs := false
			w := connect(t, &Session{Handle: func(ctx context.Context, req *privval.Request) (privval.Response, error) {
				if hangs {
					<-free
				}
				return echo(ctx, req)
			}})
			w.call(ping)
			time.Sleep(quiet)
			w.call(ping)
			time.Sleep(quiet)
			hangs = true
			begin := time.Now()
			if err := privvaltest.WriteRequest(w.node, ping); err != nil {
				t.Fatal(err)
			}
			if _, err := w.in.ReadByte(); err != io.EOF {
				t.Errorf("the node read %v", err)
			}
			if took := time.Since(begin); took != AnswerTimeout {
				t.Errorf("after %v of silence: closed after %v", quiet, took)
			}
			close(free)
			<-w.done
		})
	}
}

// However a request is cut or lumped together, it is the same request.
func TestSplits(t *testing.T) {
	stream := func(extension int) (b []byte) {
		big := privval.Request{
			Kind: privval.KindPrecommit, ChainID: "chain-1", Height: 1, Extension: make([]byte, extension),
			BlockID: privval.BlockID{Hash: make([]byte, 32), PartsTotal: 1, PartsHash: make([]byte, 32)},
		}
		for _, r := range []privval.Request{pubKey, ping, big, ping, pubKey} {
			b = append(b, frame(r)...)
		}
		return b
	}
	for name, c := range map[string]struct{ size, extension int }{
		"byte by byte":     {1, 20_000},
		"three bytes":      {3, 20_000},
		"a packet's worth": {1460, 1 << 20},
		"all at once":      {1 << 21, 1 << 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{})
			go func() {
				for part := range slices.Chunk(stream(c.extension), c.size) {
					w.node.Write(part)
				}
			}()
			for i, want := range []privval.Kind{privval.KindPubKey, privval.KindPing, privval.KindVote, privval.KindPing, privval.KindPubKey} {
				payload, err := privval.ReadFrame(w.in, nil)
				if err != nil {
					t.Fatalf("%s: reply %d: %v", name, i, err)
				}
				if resp, err := privvaltest.DecodeResponse(payload); err != nil || resp.Kind != want {
					t.Errorf("%s: reply %d: %+v, %v", name, i, resp, err)
				}
			}
		})
	}
}

// A request that comes late in the time that a node may be silent is answered all
// the same: the time for its reply starts with the reply.
func TestLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := connect(t, &Session{})
		for range 5 {
			w.call(ping)
			time.Sleep(DefaultIdle - time.Millisecond)
		}
		w.call(ping)
	})
}

// A node that does not read its reply is gone.
func TestNodeDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := connect(t, &Session{})
		if err := privvaltest.WriteRequest(w.node, pubKey); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		<-w.done
		if took := w.ended.Sub(begin); took < messageTimeout || took > messageTimeout+slack || w.err == nil || !strings.Contains(w.err.Error(), "cannot answer") {
			t.Errorf("ended after %v: %v", took, w.err)
		}
	})
}

// How a connection that the node ends reads to an operator.
func TestNodeCloses(t *testing.T) {
	for _, c := range []struct {
		network string
		asks    bool
		want    string
	}{
		{"unix", false, "unix:///node.sock closed the connection"},
		{"unix", true, "unix:///node.sock closed the connection"},
		{"tcp", false, "closed the connection"},
		{"noise", true, "closed the connection"},
		{"noise", false, "is our peer id the one in its priv_validator_laddr?"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := connect(t, &Session{Addr: Addr{Network: c.network, Address: "/node.sock"}})
			if c.asks {
				w.call(ping)
			}
			w.node.Close()
			w.endsWith(c.want)
			if w.served != c.asks {
				t.Errorf("served: %v", w.served)
			}
		})
	}
}

func TestStateNames(t *testing.T) {
	for state, want := range map[State]string{Dialling: "dialling", Parked: "parked", Serving: "serving"} {
		if state.String() != want {
			t.Errorf("%d is %s", state, state)
		}
	}
}
