package monitor

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"privyseal/internal/watermark"
)

// countingListener counts the connections that are open on the server's side.
type countingListener struct {
	net.Listener
	open, most atomic.Int64
}

type countedConn struct {
	net.Conn
	l    *countingListener
	once atomic.Bool
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := l.open.Add(1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	return &countedConn{Conn: conn, l: l}, nil
}

func (c *countedConn) Close() error {
	if c.once.CompareAndSwap(false, true) {
		c.l.open.Add(-1)
	}
	return c.Conn.Close()
}

// Idle connections, however many, cost a bounded number of descriptors and keep
// nobody from the metrics. Some have asked before, most never do.
func TestIdleConnectionsAreCapped(t *testing.T) {
	m, _ := newTestChain("chain-1", "chain-1", watermark.Saved{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: inner}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.ServeHTTP(ctx, l) }()
	url := "http://" + inner.Addr().String() + "/healthz"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // each scrape is the newest connection
	scrape := func() {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "ok\n" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	var idle []net.Conn
	for i := range 10 * maxConns {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
		if i%maxConns == 0 {
			scrape()
		}
	}
	scrape()
	// One is over for as long as it takes to close another.
	if most := l.most.Load(); most > maxConns+1 {
		t.Errorf("%d connections were open at once", most)
	}
	// The first ones were closed, and know it.
	if n, err := idle[0].Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the oldest connection is still open: %d, %v", n, err)
	}
	for _, conn := range idle {
		conn.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// How the listeners do is in the status, and a failure is counted.
func TestListens(t *testing.T) {
	m, _ := newTestChain("chain-1", "chain-1", watermark.Saved{})
	m.Listens(MetricsListener, "127.0.0.1:1", io.ErrUnexpectedEOF)
	m.Listens(StatusListener, "/home/privyseal.sock", nil)
	m.Listens(MetricsListener, "127.0.0.1:1", nil)
	s := m.Snapshot()
	if len(s.Listeners) != 2 || s.Listeners[0] != (Listener{Name: MetricsListener, Addr: "127.0.0.1:1"}) || s.Listeners[1].Name != StatusListener {
		t.Errorf("%+v", s.Listeners)
	}
	if got := series(t, m)[`privyseal_listener_errors_total{listener="metrics"}`]; got != "1" {
		t.Errorf("counted %s", got)
	}
}
