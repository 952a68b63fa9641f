package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

func connectorAt(t *testing.T, handler http.HandlerFunc) *Connector {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	transport, err := Open(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { transport.Close() })
	return transport.(*Connector)
}

func TestConnectorExchange(t *testing.T) {
	c := connectorAt(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/connector/api" || r.Header.Get("Content-Type") != "application/octet-stream" || r.ContentLength != int64(len(body)) {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		w.Write(append(body, make([]byte, MaxMessage-len(body))...))
	})
	answer, err := c.Exchange(t.Context(), []byte{6, 0, 0})
	if err != nil || len(answer) != MaxMessage || !bytes.Equal(answer[:3], []byte{6, 0, 0}) {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
}

// TestConnectorFaults is what can stand where a connector is expected.
func TestConnectorFaults(t *testing.T) {
	asked := 0
	for name, f := range map[string]struct {
		handler http.HandlerFunc
		status  int
		says    string
	}{
		"no device":      {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no device", 500) }, 500, "reaches no device"},
		"another server": {func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, 404, "is not a YubiHSM connector"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			asked++
			http.Redirect(w, r, "/connector/api", http.StatusTemporaryRedirect)
		}, 307, "is not a YubiHSM connector"},
		"too many bytes": {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, MaxMessage+1)) }, 0, "more than 3136 bytes"},
		"bytes forever": {func(w http.ResponseWriter, r *http.Request) {
			for _, err := w.Write(make([]byte, 4096)); err == nil && r.Context().Err() == nil; {
				_, err = w.Write(make([]byte, 4096))
			}
		}, 0, "more than 3136 bytes"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "20")
			w.Write(make([]byte, 10))
		}, 0, "unexpected EOF"},
		"no answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			c := connectorAt(t, f.handler)
			answer, err := c.Exchange(t.Context(), []byte{6, 0, 0})
			var failed *ConnectorError
			if answer != nil || !errors.As(err, &failed) || failed.Unsent || failed.Status != f.status || failed.Address != c.String() || !strings.Contains(err.Error(), f.says) {
				t.Errorf("%d bytes, %v", len(answer), err)
			}
			if _, err := c.Status(t.Context()); err == nil {
				t.Error("it has a status")
			}
		})
	}
	if asked != 2 {
		t.Errorf("the redirect was asked %d times", asked)
	}
}

// TestConnectorUnsent: without a connection nothing was sent, whatever the reason.
func TestConnectorUnsent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	l.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"nobody listens": t.Context(), "no time": ended} {
		c, err := NewConnector(address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Exchange(ctx, []byte{6, 0, 0})
		if failed, ok := errors.AsType[*ConnectorError](err); !ok || !failed.Unsent || failed.Cause == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConnectorHangs: a connector waits for its device without end, and its caller does not.
func TestConnectorHangs(t *testing.T) {
	arrived, done := make(chan struct{}), make(chan struct{})
	c := connectorAt(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(done)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(context.DeadlineExceeded)
	}()
	_, err := c.Exchange(ctx, []byte{6, 0, 0})
	var failed *ConnectorError
	if !errors.As(err, &failed) || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	<-done
	if deadline := exchangeTimeout; deadline > 5*time.Minute {
		t.Errorf("a message may take %v", deadline)
	}
}

func TestConnectorAddresses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:12345", "http://", "http://127.0.0.1:12345/api", "http://127.0.0.1/?x", "http://u:hunter2@127.0.0.1", "http://u:hunter2%zz@127.0.0.1", "tcp://127.0.0.1:12345",
		"http://127.0.0.1:12345#x", "http://%zz", "http://127.0.0.1:65536", "http://127.0.0.1:0"} {
		if _, err := Open(address); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q is an address: %v", address, err)
		}
		if _, err := NewConnector(address); err == nil {
			t.Errorf("%q is a connector's address", address)
		}
	}
	for _, address := range []string{DefaultConnector, "http://127.0.0.1:12345/", "https://hsm.example"} {
		if c, err := Open(address); err != nil || c.(*Connector).String() != strings.TrimRight(address, "/") {
			t.Errorf("%q: %v, %v", address, c, err)
		}
	}
}

// TestTooLong: an operator reads why no answer came.
func TestTooLong(t *testing.T) {
	for want, err := range map[string]error{
		"no answer from the YubiHSM connector at http://a: it took too long":   &ConnectorError{Address: "http://a", Cause: fmt.Errorf("net: %w", context.DeadlineExceeded)},
		"no answer from the YubiHSM connector at http://a: connection refused": &ConnectorError{Address: "http://a", Cause: syscall.ECONNREFUSED},
		"no answer from the YubiHSM 0000000007 on the USB: it took too long":   &USBError{Serial: "0000000007", Cause: context.DeadlineExceeded},
		"no answer from the YubiHSM on the USB: input/output error":            &USBError{Cause: syscall.EIO},
	} {
		if err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestConnectorUsesNoProxy: what a message holds is the device's and nobody else's.
func TestConnectorUsesNoProxy(t *testing.T) {
	c, err := NewConnector("http://hsm.example:12345")
	if err != nil {
		t.Fatal(err)
	}
	if c.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy is used")
	}
}

func TestConnectorStatus(t *testing.T) {
	page := "status=OK\nserial=*\nversion=3.0.5\npid=77\naddress=localhost\nport=12345\n"
	c := connectorAt(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/connector/status" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		io.WriteString(w, page)
	})
	for _, s := range []struct {
		page string
		want ConnectorStatus
		ok   bool
	}{
		{page, ConnectorStatus{true, "*", "3.0.5"}, true},
		{"status=NO_DEVICE\r\nserial=0123456789\r\n", ConnectorStatus{false, "0123456789", ""}, true},
		{"status\nOK\n", ConnectorStatus{}, false},
		{"<html>", ConnectorStatus{}, false},
		{"status=OK\n" + strings.Repeat("x", maxStatus), ConnectorStatus{}, false},
	} {
		page = s.page
		if got, err := c.Status(t.Context()); got != s.want || (err == nil) != s.ok {
			t.Errorf("%.30q: %+v, %v", s.page, got, err)
		}
	}
}
