package etcd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// said is a connection whose other end says what in has, and then nothing more.
type said struct {
	net.Conn
	in     io.Reader
	out    io.Writer
	closed bool
}

func (s *said) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *said) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *said) Close() error                { s.closed = true; return nil }
func (s *said) SetDeadline(time.Time) error { return nil }

// Whatever a member says, each call ends, and what it says of itself holds: after an error
// that is no status the connection is closed, and used no more.
func FuzzMember(f *testing.F) {
	for _, s := range scripts(f) {
		f.Add(s.bytes(f))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		conn := &said{in: bytes.NewReader(text), out: io.Discard}
		c := newConn(conn, "http://member:1", "http", "member:1")
		if c.open(t.Context()) != nil {
			return
		}
		for range 3 {
			r, err := c.Range(t.Context(), vectorKey, 0)
			_, isStatus := errors.AsType[*Error](err)
			switch {
			case err == nil && (r.Header.check() != nil || r.Value.Modified > r.Header.Revision):
				t.Fatalf("%+v", r)
			case err != nil && !isStatus && (!conn.closed || c.dead == nil):
				t.Fatalf("%v, and the connection is used further", err)
			}
		}
		if len(c.out) > 2*maxFrames*(maxFrame+9) {
			t.Fatalf("%d bytes to send", len(c.out))
		}
	})
}

// bytes is what the member of a script sends, which waits for nothing.
func (s script) bytes(t testing.TB) []byte {
	var sent bytes.Buffer
	s.steps = slices.DeleteFunc(slices.Clone(s.steps), func(step []string) bool { return step[0] == "expect" || step[0] == "reached" })
	s.member(t, &said{in: strings.NewReader(""), out: &sent})
	return sent.Bytes()
}

// Each decoder ends, and reads the same message in the same way.
func FuzzAnswers(f *testing.F) {
	var kinds []string
	for _, v := range vectors(f) {
		if strings.HasPrefix(v.name, "answer/") {
			kinds = append(kinds, v.name)
			f.Add(len(kinds)-1, v.message)
		}
	}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		kind = max(kind%len(kinds), 0)
		before := bytes.Clone(b)
		text, err := decoded(kinds[kind], b)
		if !bytes.Equal(b, before) {
			t.Fatal("a decoder has changed what it reads")
		}
		again, err2 := decoded(kinds[kind], b)
		if text != again || (err == nil) != (err2 == nil) {
			t.Fatalf("%q, %v, and then %q, %v", text, err, again, err2)
		}
		if len(text) > 200+20*len(b) {
			t.Fatalf("%d bytes of text from %d", len(text), len(b))
		}
	})
}
