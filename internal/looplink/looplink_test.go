package looplink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// link returns both sides of one enclave.
func link(t *testing.T) (*Host, *Enclave) {
	t.Helper()
	h, err := NewHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	value, found := strings.CutPrefix(h.Environment(), Variable+"=")
	if !found {
		t.Fatalf("%q", h.Environment())
	}
	e, err := NewEnclave(value)
	if err != nil {
		t.Fatal(err)
	}
	return h, e
}

// echo answers what comes, once the other side has said all.
func echo(t *testing.T, c net.Conn) {
	defer c.Close()
	data, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	if _, err := c.Write(data); err != nil {
		t.Error(err)
	}
}

func ask(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	c.Write([]byte("question"))
	c.(conn).CloseWrite()
	if answer, err := io.ReadAll(c); string(answer) != "question" {
		t.Errorf("answered %q, %v", answer, err)
	}
}

// Each side reaches what the other listens on, many times at once, and no other port.
func TestBothWays(t *testing.T) {
	h, e := link(t)
	inside, err := e.Listen(5050)
	if err != nil {
		t.Fatal(err)
	}
	outside, err := h.Listen(900)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{inside, outside} {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go echo(t, c)
			}
		}()
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			c, err := e.Dial(t.Context(), 900)
			if err != nil {
				t.Error(err)
				return
			}
			ask(t, c)
		})
		group.Go(func() {
			c, err := h.Dial(t.Context(), 5050)
			if err != nil {
				t.Error(err)
				return
			}
			ask(t, c)
		})
	}
	group.Wait()
	if _, err := e.Dial(t.Context(), 901); err == nil || !strings.Contains(err.Error(), "the host does not serve port 901") {
		t.Errorf("a port of the host that nobody serves: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := h.Dial(ctx, 5051); !errors.Is(err, why) {
		t.Errorf("a port of the enclave that nobody serves: %v", err)
	}
	if _, err := h.Listen(900); err == nil {
		t.Error("a port twice")
	}
	outside.Close()
	if _, err := e.Dial(t.Context(), 900); err == nil {
		t.Error("a listener that was closed")
	}
	inside.Close()
	if _, err := inside.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Who has no token gets nothing, and does not stand in the way of who has it.
func TestStrangers(t *testing.T) {
	h, e := link(t)
	outside, err := h.Listen(900)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := outside.Accept()
			if err != nil {
				return
			}
			go echo(t, c)
		}
	}()
	stranger := func() net.Conn {
		c, err := net.Dial("tcp", h.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for name, text := range map[string][]byte{
		"another token": append(append(bytes.Repeat([]byte{7}, 32), dialled), 0, 0, 3, 0x84),
		"a watch":       append(append(bytes.Repeat([]byte{7}, 32), watching), 0, 0, 0, 0),
		"too little":    {1},
		"another kind":  append(append(bytes.Clone(h.token[:]), 'x'), 0, 0, 3, 0x84),
	} {
		c := stranger()
		c.Write(text)
		c.(conn).CloseWrite()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	before, err := e.Dial(t.Context(), 900)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxOpening {
		stranger() // says nothing
	}
	after, err := e.Dial(t.Context(), 900)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, before)
	ask(t, after)
}

// An enclave that is told nonsense says so.
func TestVariable(t *testing.T) {
	digits := strings.Repeat("ab", 32)
	for text, says := range map[string]string{
		"":                             "is not ADDRESS:PORT and a token",
		"127.0.0.1:1":                  "is not ADDRESS:PORT and a token",
		"127.0.0.1:1 " + digits[1:]:    "is not ADDRESS:PORT and a token",
		"127.0.0.1:1 " + digits + "ab": "is not ADDRESS:PORT and a token",
		"192.0.2.1:1 " + digits:        "not on loopback",
		"localhost:1 " + digits:        "not on loopback",
		"127.0.0.1 " + digits:          "not on loopback",
	} {
		if _, err := NewEnclave(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := NewEnclave("[::1]:1 " + digits); err != nil {
		t.Error(err)
	}
}

// An enclave sees that its host is gone, and no call waits for ever.
func TestHostGone(t *testing.T) {
	h, e := link(t)
	l, err := e.Listen(5050)
	if err != nil {
		t.Fatal(err)
	}
	watch, err := e.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if watch.Err() != nil {
		t.Fatal("the host is there")
	}
	done := make(chan error)
	go func() {
		_, err := l.Accept()
		done <- err
	}()
	h.Close()
	wait(t, "the host is gone", watch.Done())
	if _, err := e.Watch(t.Context()); err == nil || !strings.Contains(err.Error(), "the host that launched this enclave is gone") {
		t.Error(err)
	}
	if _, err := e.Dial(t.Context(), 900); err == nil || !strings.Contains(err.Error(), "cannot reach the host") && !strings.Contains(err.Error(), "does not serve") {
		t.Error(err)
	}
	l.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Accept does not end")
	}
}

// What comes while the host ends, or afterwards, is closed, and handed to nobody; and nobody
// waits for it.
func TestLate(t *testing.T) {
	h, _ := link(t)
	at, err := h.Listen(900)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{})
	go func() {
		if _, err := at.Accept(); errors.Is(err, net.ErrClosed) {
			close(refused)
		}
	}()
	before, opening1 := pair(t)
	h.begin(before)
	h.Close()
	after, opening2 := pair(t)
	h.begin(after)
	for when, c := range map[string]conn{"before": opening1, "after": opening2} {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection that began %s the end is opening: %v", when, err)
		}
	}
	for _, kind := range []byte{offered, dialled, watching} {
		ours, _ := pair(t)
		if h.give(opening{h.token, kind, 5050}, ours) {
			t.Errorf("one of the kind %q is kept after the end", kind)
		}
	}
	if _, err := h.Dial(t.Context(), 5050); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a dial after the end: %v", err)
	}
	if _, err := h.Listen(901); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener after the end: %v", err)
	}
	wait(t, "the host listens no more", refused)
	h.Close()
}

// pair returns both ends of one connection.
func pair(t *testing.T) (ours, theirs conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return accepted.(conn), dialled.(conn)
}

// Whatever the enclave opens, and whoever waits for it, while the host ends: each connection
// ends, and each wait.
func TestCloseRaces(t *testing.T) {
	for n := 0; n < 30 && !t.Failed(); n++ {
		h, _ := link(t)
		at, err := h.Listen(900)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		begun := make(chan struct{}, 40)
		for i := range 20 {
			group.Go(func() {
				defer func() { begun <- struct{}{} }()
				c, err := net.Dial("tcp", h.l.Addr().String())
				if err != nil {
					return // it has ended
				}
				kind := []byte{offered, offered, dialled, watching}[i%4]
				port := uint32(5050)
				if kind == dialled {
					port = 900
				}
				(opening{h.token, kind, port}).write(c)
				begun <- struct{}{}
				group.Go(func() {
					defer c.Close()
					c.SetReadDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("a connection of the kind %q is left open", kind)
					}
				})
			})
		}
		dials := make(chan error, 5)
		for range 5 {
			group.Go(func() {
				c, err := h.Dial(t.Context(), 5050)
				if err == nil {
					c.Close()
				}
				dials <- err
			})
		}
		group.Go(func() {
			for {
				c, err := at.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		})
		for range 10 {
			<-begun
		}
		h.Close()
		group.Wait()
		for range 5 {
			if err := <-dials; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("a dial: %v", err)
			}
		}
	}
}

// wait waits for what has to come.
func wait(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody notices: " + what)
	}
}

// A watch ends with whoever asked for it as well, and the host keeps some of them only.
func TestWatch(t *testing.T) {
	h, e := link(t)
	ctx, stop := context.WithCancel(t.Context())
	watch, err := e.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	wait(t, "nobody asks any more", watch.Done())
	for range maxOffers - 1 {
		if _, err := e.Watch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Watch(t.Context()); err == nil {
		t.Errorf("%d watches", len(h.watches))
	}
}

func FuzzOpening(f *testing.F) {
	f.Add(append(make([]byte, 32), 'd', 0, 0, 3, 0x84))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := readOpening(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := o.write(&again); err != nil || !bytes.Equal(again.Bytes(), data[:openingSize]) {
			t.Fatalf("%x became %x, %v", data, again.Bytes(), err)
		}
	})
}
