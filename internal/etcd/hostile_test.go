package etcd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// script is one case of testdata/hostile.txt, whose head has the format.
type script struct {
	name    string
	steps   [][]string
	outcome string
	reached func() // called at the step "reached"
}

func scripts(t testing.TB) (list []script) {
	t.Helper()
	raw, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "case":
			list = append(list, script{name: strings.Join(words[1:], " ")})
		case words[0] == "=":
			list[len(list)-1].outcome = strings.Join(words[1:], " ")
		default:
			list[len(list)-1].steps = append(list[len(list)-1].steps, words)
		}
	}
	return list
}

var kinds = map[string]byte{"data": frameData, "headers": frameHeaders, "priority": framePriority, "reset": frameReset, "settings": frameSettings, "push": framePush,
	"ping": framePing, "goaway": frameGoAway, "window": frameWindow, "continuation": frameContinuation, "new": 99}

// parts splits a payload at each "+" that is in no braces.
func parts(text string) []string {
	inside := false
	return strings.FieldsFunc(text, func(r rune) bool {
		inside = r == '{' || inside && r != '}'
		return r == '+' && !inside
	})
}

// payload builds the payload of a frame: parts joined by "+".
func payload(t testing.TB, encoder *hpack.Encoder, block *bytes.Buffer, text string) (b []byte) {
	status := vectors(t)[0].message
	for _, v := range vectors(t) {
		if v.name == "answer/status" {
			status = v.message
		}
	}
	for _, part := range parts(text) {
		kind, argument, _ := strings.Cut(strings.TrimSuffix(part, "}"), "{")
		n, _ := strconv.Atoi(argument)
		switch kind {
		case "h":
			block.Reset()
			for field := range strings.SplitSeq(argument, "|") {
				name, value, _ := strings.Cut(field[1:], "=")
				encoder.WriteField(hpack.HeaderField{Name: field[:1] + name, Value: strings.ReplaceAll(value, "_", " ")})
			}
			b = append(b, block.Bytes()...)
		case "first", "rest": // of the answer's headers
			good := appendHeader(appendHeader(nil, ":status", "200"), "content-type", "application/grpc")
			if kind == "first" {
				b = append(b, good[:3]...)
			} else {
				b = append(b, good[3:]...)
			}
		case "m":
			b = append(append(b, 0, 0, 0, byte(len(status)>>8), byte(len(status))), status...)
		case "z":
			b = append(b, make([]byte, n)...)
		case "long": // a header of that length
			block.Reset()
			encoder.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("\x00", n), Sensitive: true})
			b = append(b, block.Bytes()...)
		default:
			raw, err := hex.DecodeString(strings.TrimPrefix(part, "-"))
			if err != nil {
				t.Fatalf("%q: %v", part, err)
			}
			b = append(b, raw...)
		}
	}
	return b
}

// member plays a script to one client.
func (s script) member(t testing.TB, conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in, frames := bufio.NewReader(conn), new([maxFrame]byte)
	io.CopyN(io.Discard, in, 24)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, step := range s.steps {
		switch kind := strings.TrimLeft(step[0], "*"); kind {
		case "raw":
			b, _ := hex.DecodeString(step[1])
			conn.Write(b)
		case "close":
			return
		case "reached":
			s.reached()
		case "expect": // KIND FLAGS PAYLOAD of the client
			var want []byte
			if step[3] != "any" {
				want = payload(t, encoder, &block, step[3])
			}
			for {
				f, err := readFrame(in, frames)
				if err != nil {
					t.Errorf("%s: the client never sent %q: %v", s.name, step[1:], err)
					return
				}
				if f.kind == kinds[step[1]] && strconv.Itoa(int(f.flags)) == step[2] && (step[3] == "any" || bytes.Equal(f.payload, want)) {
					break
				}
			}
		default: // KIND FLAGS STREAM PAYLOAD, [*N] times
			flags, _ := strconv.Atoi(step[1])
			stream, _ := strconv.ParseUint(step[2], 10, 32)
			b := appendFrame(nil, kinds[kind], byte(flags), uint32(stream), payload(t, encoder, &block, step[3]))
			times := 1
			if len(step) > 4 {
				times, _ = strconv.Atoi(step[4])
			}
			if _, err := conn.Write(bytes.Repeat(b, times)); err != nil {
				return // the client has had enough
			}
		}
	}
	io.Copy(io.Discard, in) // until the client ends it
}

// play runs a script; it returns what Dial and a call returned, and whether another call on
// the same connection can be made.
func (s script) play(t testing.TB, ctx context.Context) (err error, usable bool) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan bool)
	go func() {
		defer close(done)
		if conn, err := listener.Accept(); err == nil {
			s.member(t, conn)
		}
	}()
	defer func() { <-done }()
	c, err := new(Dialer).Dial(ctx, "http://"+listener.Addr().String())
	if err != nil {
		return err, false
	}
	defer c.Close()
	if _, err = c.Status(ctx); strings.HasPrefix(s.outcome, "twice") && err == nil {
		_, err = c.Status(ctx)
	}
	return err, c.dead == nil
}

// Whatever a member sends, a call ends with what is known of it.
func TestHostile(t *testing.T) {
	for _, s := range scripts(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			err, usable := s.play(t, t.Context())
			_, isStatus := errors.AsType[*Error](err)
			kind := "unknown"
			switch {
			case err == nil:
				kind = "ok"
			case isStatus:
				kind = "status"
			case errors.Is(err, ErrNotSent):
				kind = "notsent"
			}
			want, text, _ := strings.Cut(strings.TrimPrefix(s.outcome, "twice "), " ")
			if kind != want || err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(text, "dead")) {
				t.Errorf("%s: %v\nnot %s", kind, err, s.outcome)
			}
			if usable != (err == nil || isStatus) != (text == "dead") {
				t.Errorf("after %v the connection is usable: %v", err, usable)
			}
		})
	}
}

// opens are the steps of a member that accepts a client and says nothing to its call.
var opens = [][]string{{"settings", "0", "0", "-"}, {"expect", "data", "1", "any"}, {"reached"}}

// A member that never answers holds nobody for longer than the caller says.
func TestSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err, _ := (script{}).play(t, ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNotSent) {
		t.Errorf("the dial: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	if err, usable := (script{steps: opens, reached: cancel}).play(t, ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotSent) || usable {
		t.Errorf("a call that is ended: %v", err)
	}
	for patience := 50 * time.Millisecond; ; patience *= 2 {
		began := false
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err, usable := script{steps: opens, reached: func() { began = true }}.play(t, ctx)
		cancel()
		if !began && errors.Is(err, ErrNotSent) && patience < time.Minute {
			continue // this machine was slower
		}
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNotSent) || usable {
			t.Errorf("a call until its deadline: %v", err)
		}
		break
	}
}

// Close ends a call that is under way, whose outcome nobody knows then.
func TestCloseInACall(t *testing.T) {
	client, server := net.Pipe()
	d := Dialer{Net: func(context.Context, string) (net.Conn, error) { return client, nil }}
	var c *Conn
	begun := make(chan struct{})
	go script{steps: opens, reached: func() { close(begun) }}.member(t, server)
	c, err := d.Dial(t.Context(), "http://member:1")
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-begun; c.Close() }()
	if _, err := c.Status(t.Context()); err == nil || errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
}

// A message that is longer than flow control allows at once goes out in parts.
func TestWindows(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	c := newConn(client, "", "http", "")
	c.window, c.initial = 10, 7
	got := make(chan []int)
	go func() {
		in, buf := bufio.NewReader(server), new([maxFrame]byte)
		var lengths []int
		for {
			f, err := readFrame(in, buf)
			if err != nil {
				break
			}
			if f.kind != frameData {
				continue
			}
			lengths = append(lengths, len(f.payload))
			switch len(lengths) {
			case 1: // the stream's window is used up; the connection has 3 left
				server.Write(appendFrame(nil, frameWindow, 0, 1, []byte{0, 0, 0, 9}))
			case 2: // now the connection's
				server.Write(appendFrame(nil, frameWindow, 0, 0, []byte{0, 0, 1, 0}))
			case 3: // SETTINGS give the stream 13 more
				server.Write(appendFrame(nil, frameSettings, 0, 0, appendSetting(nil, settingWindow, 20)))
			case 4:
				server.Write(appendFrame(nil, frameGoAway, 0, 0, make([]byte, 8)))
			}
		}
		got <- lengths
	}()
	err := c.exchange(&stream{id: 1, window: 7}, c.head("x", true), make([]byte, 25)) // 30 with its head
	if !errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
	client.Close()
	if lengths := fmt.Sprint(<-got); lengths != "[7 3 6 13]" {
		t.Errorf("parts of %s bytes", lengths)
	}
}

// What an endpoint may be.
func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:1": true, "https://[::1]:2379": true, "https://etcd-1:2379": true,
		"": false, "etcd-1:2379": false, "ftp://etcd-1:2379": false, "https://etcd-1": false, "https://:2379": false, "https://etcd-1:0": false,
		"https://etcd-1:65536": false, "https://etcd-1:2379/": false, "https://a@etcd-1:2379": false, "https://etcd-1/x:2379": false, "http://a b:1": false,
	} {
		if _, _, err := split(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	for _, c := range []struct {
		endpoint string
		dialer   Dialer
	}{{"https://127.0.0.1:1", Dialer{}}, {"http://127.0.0.1:1", Dialer{TLS: func() (*tls.Config, error) { return nil, nil }}}} {
		if _, err := c.dialer.Dial(t.Context(), c.endpoint); err == nil || !strings.Contains(err.Error(), "where TLS is used") || !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", c.endpoint, err)
		}
	}
	failing := Dialer{Net: func(context.Context, string) (net.Conn, error) { return nil, os.ErrNotExist }}
	if _, err := failing.Dial(t.Context(), "http://127.0.0.1:1"); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, ErrNotSent) {
		t.Error(err)
	}
}

// Which statuses say that a request was certainly not executed, and which do not.
func TestStatuses(t *testing.T) {
	for _, e := range []struct {
		Error
		definite bool
	}{
		{Error{7, "etcdserver: permission denied"}, true},
		{Error{8, "etcdserver: too many requests"}, true},
		{Error{14, "etcdserver: no leader"}, true},
		{Error{8, "etcdserver: mvcc: database space exceeded"}, false}, // said after it was executed
		{Error{14, "etcdserver: request timed out"}, false},
		{Error{14, "etcdserver: leader changed"}, false},
		{Error{14, "etcdserver: server stopped"}, false},
		{Error{2, "raft proposal dropped"}, false}, // not traced in each line
		{Error{8, "etcdserver: permission denied"}, false},
		{Error{7, "something else"}, false},
	} {
		if errors.Is(&e.Error, ErrNotSent) != e.definite {
			t.Errorf("%v is taken for certain: %v", &e.Error, !e.definite)
		}
	}
}

// A member that speaks TLS 1.2 only, or no HTTP/2, is left.
func TestOldTLS(t *testing.T) {
	for _, config := range []*tls.Config{{MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}, {NextProtos: []string{"http/1.1"}}, {}} {
		server := httptest.NewUnstartedServer(nil)
		server.TLS = config.Clone()
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		d := Dialer{TLS: func() (*tls.Config, error) { return &tls.Config{RootCAs: roots}, nil }}
		if c, err := d.Dial(t.Context(), "https://"+server.Listener.Addr().String()); !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), "protocol") && !strings.Contains(err.Error(), "HTTP/2") {
			t.Errorf("%+v: %v, %v", config, c, err)
		}
		server.Close()
	}
}

// deaf is a connection on which nothing more can be written once the member has said why it
// hung up, as if that had come first.
type deaf struct {
	net.Conn
	refused  chan struct{} // closed once it has
	accepted int           // how many writes before that
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.accepted--; d.accepted < 0 {
		<-d.refused
		return 0, syscall.EPIPE
	}
	return d.Conn.Write(b)
}

// A member that refuses our certificate says why, also where it has hung up before we wrote
// to it.
func TestRefusedBeforeTheFirstWrite(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.TLS = &tls.Config{NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(tls.ConnectionState) error { return errors.New("a stranger") }}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	refused := make(chan struct{})
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(refused)
		}
	}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	d := Dialer{
		TLS: func() (*tls.Config, error) {
			return &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}, nil
		},
		Net: func(ctx context.Context, hostport string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
			return &deaf{conn, refused, 2}, err // the two flights of the handshake
		},
	}
	if _, err := d.Dial(t.Context(), server.URL); !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), "bad certificate") {
		t.Error(err)
	}
}

// Whoever ends a wait, what is said is how long it was.
func TestWhy(t *testing.T) {
	late := errors.New("no answer within a moment")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, late)
	defer cancel()
	for _, err := range []error{os.ErrDeadlineExceeded, context.DeadlineExceeded, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}} {
		if got := why(ctx, err); got != late {
			t.Errorf("%v: %v", err, got)
		}
		if got := why(t.Context(), err); got != context.DeadlineExceeded { // ours, of [maxCall]
			t.Errorf("%v, by itself: %v", err, got)
		}
	}
	if got := why(ctx, io.EOF); got != io.EOF {
		t.Error(got)
	}
}
