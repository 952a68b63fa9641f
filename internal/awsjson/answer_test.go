package awsjson

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"privyseal/internal/secret"
)

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", maxBody)
	for name, test := range map[string]struct{ raw, body string }{
		"plain":             {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"},
		"empty":             {"HTTP/1.1 400 \r\ncontent-length: 0\r\n\r\n", ""},
		"without reason":    {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", "hi"},
		"more behind":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there", "hi"},
		"longest":           {"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + long, long},
		"chunked":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nh\r\n001\r\ni\r\n0\r\n\r\n", "hi"},
		"chunked and empty": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
	} {
		a, err := answerOf(iotest.OneByteReader(strings.NewReader(test.raw)))
		if err != nil || string(a.Body) != test.body {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

func TestRefusedAnswers(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":              "",
		"half a line":          "HTTP/1.1 20",
		"half the headers":     "HTTP/1.1 200 OK\r\nContent-Le",
		"half the body":        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
		"HTTP/1.0":             "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/2":               "HTTP/2 200\r\n\r\n",
		"SSH":                  "SSH-2.0-OpenSSH_9.2\r\n",
		"status 100":           "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
		"status 99999":         "HTTP/1.1 99999 X\r\nContent-Length: 0\r\n\r\n",
		"status +20":           "HTTP/1.1 +20 X\r\nContent-Length: 0\r\n\r\n",
		"no length":            "HTTP/1.1 200 OK\r\n\r\nhi",
		"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
		"length and chunks":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"negative length":      "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"length in hex":        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nhi",
		"too long":             "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n" + strings.Repeat("x", maxBody+1),
		"huge length":          "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"endless headers":      "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<16),
		"endless header":       "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 1<<20),
		"chunk too long":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + strings.Repeat("x", 1<<20),
		"chunks too long":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 3) + "0\r\n\r\n",
		"small chunks forever": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 1<<16) + "0\r\n\r\n",
		"chunk extension":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n",
		"chunk without end":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
		"chunks cut off":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
		"trailer":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
	} {
		if a, err := answerOf(strings.NewReader(raw)); !errors.Is(err, errHTTP) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	f.Add("HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n001\r\ni\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 400 X\r\nX-Amzn-Requestid: 1\r\nContent-Length: 32\r\n\r\n{\"__type\":\"X\",\"message\":\"\\u001b\"}")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := answerOf(strings.NewReader(raw))
		if err != nil {
			return
		}
		if len(a.Body) > maxBody || len(a.Body) > len(raw) || a.Status < 200 || a.Status > 599 {
			t.Errorf("status %d, %d bytes", a.Status, len(a.Body))
		}
		r := a.Refusal(secret.AWS{})
		for _, c := range r.Code + r.Message + r.RequestID {
			if c < ' ' || c > '~' {
				t.Errorf("a refusal with %q", c)
			}
		}
	})
}

// answerOf reads one answer.
func answerOf(r io.Reader) (*Answer, error) {
	return NewConn(struct {
		io.Reader
		io.Writer
	}{r, io.Discard}).read()
}
