package awsjson

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"privyseal/internal/secret"
)

// served returns our end of a connection whose other end answers each request with the next
// text, as it is, and gives what it read to seen.
func served(t *testing.T, seen func(*http.Request), answers ...string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	go func() {
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for _, answer := range answers {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			seen(req)
			io.WriteString(theirs, answer)
		}
	}()
	return ours
}

var creds = secret.AWS{AccessKeyID: "ASIA", SecretAccessKey: secret.New("s"), SessionToken: secret.New("token")}

// A connection takes call after call, and says which is the last.
func TestCalls(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var seen []*http.Request
	conn := NewConn(served(t, func(r *http.Request) { seen = append(seen, r) },
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Fri, 02 Jan 2026 03:04:07 GMT\r\n\r\nhi",
		"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"))
	q := Request{Service: "dynamodb", Region: "eu-central-1", Host: "example.com:8000", Type: "application/x-amz-json-1.0", Target: "X.Y", Body: []byte("{}"), Keep: true}
	for i, want := range []Answer{{Status: 200, Body: []byte("hi"), Date: at.Add(2 * time.Second).Truncate(time.Second)}, {Status: 400, Body: []byte("h")}, {Status: 200, Last: true}} {
		q.Keep = i < 2
		a, err := conn.Do(q, creds, at)
		if err != nil || a.Status != want.Status || string(a.Body) != string(want.Body) || a.Last != want.Last || !a.Date.Equal(want.Date) {
			t.Fatalf("%d: %+v, %v", i, a, err)
		}
		r := seen[i]
		for name, value := range map[string]string{
			"Content-Type": q.Type, "X-Amz-Date": "20260102T030405Z", "X-Amz-Security-Token": "token", "X-Amz-Target": "X.Y", "Content-Length": "2",
		} {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%d: %s is %q", i, name, got)
			}
		}
		if r.Method != "POST" || r.URL.Path != "/" || r.Host != q.Host || r.Close != (i == 2) ||
			!strings.Contains(r.Header.Get("Authorization"), "Credential=ASIA/20260102/eu-central-1/dynamodb/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ") {
			t.Errorf("%d: %+v", i, r)
		}
	}
}

// Bytes that nobody asked for are not taken for the answer to the next request.
func TestBytesBeforeTheRequest(t *testing.T) {
	n := 0
	conn := NewConn(served(t, func(*http.Request) { n++ }, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""))
	if _, err := conn.Do(Request{Keep: true}, creds, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Do(Request{Keep: true}, creds, time.Now()); !errors.Is(err, errHTTP) || n != 1 {
		t.Errorf("%v after %d requests", err, n)
	}
}

// Each answer has the limits of the first.
func TestLaterHeadersHaveALimit(t *testing.T) {
	long := "X: " + strings.Repeat("y", maxHeaders) + "\r\n"
	conn := NewConn(served(t, func(*http.Request) {}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+long+"\r\n"))
	if _, err := conn.Do(Request{Keep: true}, creds, time.Now()); err != nil {
		t.Fatal(err)
	}
	if a, err := conn.Do(Request{Keep: true}, creds, time.Now()); !errors.Is(err, errHTTP) {
		t.Errorf("%v, %v", a, err)
	}
}

func TestUsable(t *testing.T) {
	for _, c := range []secret.AWS{
		{}, {AccessKeyID: "A"}, {SecretAccessKey: secret.New("s")}, {AccessKeyID: "A\r\nX: y", SecretAccessKey: secret.New("s")},
		{AccessKeyID: "A", SecretAccessKey: secret.New("s"), SessionToken: secret.New("a b")},
	} {
		if Usable(c) {
			t.Errorf("%+v", c)
		}
	}
	if !Usable(creds) {
		t.Error("good ones are not")
	}
}
