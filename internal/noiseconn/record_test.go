package noiseconn

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/flynn/noise"
)

func TestMessages(t *testing.T) {
	a, b := tcpPair(t)
	ca, cb := pair(t, a, b)
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	for _, size := range []int{0, 1, 2, 250, chunkMax - 1, chunkMax, chunkMax + 1, 1 << 20} {
		for _, way := range []struct{ from, to *Conn }{{ca, cb}, {cb, ca}} {
			if err := say(way.from, way.to, msg[:size]); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	}
}

func say(from io.Writer, to io.Reader, msg []byte) error {
	written := make(chan error, 1)
	go func() {
		n, err := from.Write(msg)
		if err == nil && n != len(msg) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	got := make([]byte, len(msg))
	_, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	if !bytes.Equal(got, msg) {
		return errors.New("message arrived changed")
	}
	return nil
}

func TestBothWaysAtOnce(t *testing.T) {
	a, b := tcpPair(t)
	ca, cb := pair(t, a, b)
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	done := make(chan error, 2)
	go func() { done <- say(ca, cb, msg) }()
	go func() { done <- say(cb, ca, msg) }()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Error(err)
	}
}

// counted counts the writes that reach the wire.
type counted struct {
	net.Conn
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

func TestOneWriteForOneMessage(t *testing.T) {
	a, b := tcpPair(t)
	wire := &counted{Conn: a}
	ca, cb := pair(t, wire, b)
	for size, want := range map[int]int{0: 0, 1: 1, 250: 1, chunkMax: 1, chunkMax + 1: 2} {
		wire.writes = 0
		if err := say(ca, cb, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if wire.writes != want {
			t.Errorf("%d bytes went out in %d writes, want %d", size, wire.writes, want)
		}
	}
}

// TestTampering sends the records "one", "two", "three" and does something to
// them. What is read must be the untouched records before, and the error.
func TestTampering(t *testing.T) {
	type records [][]byte
	const all = "onetwothree"
	tests := []struct {
		name   string
		tamper func(r records) records
		read   string
		err    error
	}{
		{"nothing", func(r records) records { return r }, all, nil},
		{"text turned", func(r records) records { r[1][2] ^= 1; return r }, "one", errForged},
		{"tag turned", func(r records) records { r[1][len(r[1])-1] ^= 0x80; return r }, "one", errForged},
		{"length a byte less", func(r records) records { r[1][1]--; return r }, "one", errForged},
		{"length a byte more", func(r records) records { r[1][1]++; return r }, "one", errForged},
		{"length beyond the end", func(r records) records { r[1][0]++; return r }, "one", io.ErrUnexpectedEOF},
		{"length of a tag", func(r records) records { r[1][1] = overhead; return r }, "one", errMalformed},
		{"length zero", func(r records) records { r[1][1] = 0; return r }, "one", errMalformed},
		{"replayed", func(r records) records { return records{r[0], r[0], r[1]} }, "one", errForged},
		{"swapped", func(r records) records { return records{r[0], r[2], r[1]} }, "one", errForged},
		{"first left out", func(r records) records { return r[1:] }, "", errForged},
		{"last left out", func(r records) records { return r[:2] }, "onetwo", nil},
		{"last cut by a byte", func(r records) records { r[2] = r[2][:len(r[2])-1]; return r }, "onetwo", io.ErrUnexpectedEOF},
		{"last cut to its length", func(r records) records { r[2] = r[2][:2]; return r }, "onetwo", io.ErrUnexpectedEOF},
		{"last cut to a byte", func(r records) records { r[2] = r[2][:1]; return r }, "onetwo", io.ErrUnexpectedEOF},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			send, recv := halves(1)
			r := records{seal(send, []byte("one")), seal(send, []byte("two")), seal(send, []byte("three"))}
			got, err := readStream(recv, slices.Concat(tc.tamper(r)...))
			if string(got) != tc.read || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.read, tc.err)
			}
		})
	}
}

func TestRecordOfAnotherConnection(t *testing.T) {
	send, _ := halves(1)
	_, recv := halves(2)
	if got, err := readStream(recv, seal(send, []byte("x"))); len(got) > 0 || !errors.Is(err, errForged) {
		t.Errorf("got %q, %v", got, err)
	}
}

// After a forged record nothing is read any more, not even what would
// authenticate.
func TestForgedRecordEndsReading(t *testing.T) {
	send, recv := halves(1)
	good := seal(send, []byte("good"))
	c := newConn(newTranscript(append(turn(bytes.Clone(good), 3), good...)), nil, recv)
	for range 3 {
		if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errForged) {
			t.Errorf("read %d bytes, %v", n, err)
		}
	}
}

// A deadline may pass in the middle of a record.
func TestDeadlineKeepsHalfRecord(t *testing.T) {
	for _, cut := range []int{1, 2, 10} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			send, recv := halves(1)
			go func() {
				defer theirs.Close()
				record := seal(send, []byte("request"))
				theirs.Write(record[:cut])
				time.Sleep(time.Minute)
				theirs.Write(record[cut:])
			}()
			c := newConn(ours, nil, recv)
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
			}
			if err := c.SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "request" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// The peer may have half a record: nothing may follow it.
func TestFailedWriteEndsWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		send, _ := halves(1)
		wire := &counted{Conn: ours}
		c := newConn(wire, send, nil)
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v", n, err)
		}
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("second write: wrote %d, %v", n, err)
		}
		if wire.writes != 1 {
			t.Errorf("%d writes reached the wire", wire.writes)
		}
	})
}

func TestNoncesRunOut(t *testing.T) {
	send, recv := halves(1)
	send.SetNonce(noise.MaxNonce)
	recv.SetNonce(noise.MaxNonce)
	wire := newTranscript(nil)
	writer := newConn(wire, send, nil)
	if _, err := writer.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if n, err := writer.Write([]byte("x")); n != 0 || !errors.Is(err, errExhausted) {
		t.Errorf("wrote %d, %v", n, err)
	}
	last := wire.written.Bytes()
	got, err := readStream(recv, slices.Concat(last, last))
	if string(got) != "last" || !errors.Is(err, errExhausted) {
		t.Errorf("read %q, %v", got, err)
	}
}

// Reads of any size make the same stream, however the records arrive.
func TestReadsOfAnySize(t *testing.T) {
	msg := make([]byte, 100_000)
	rand.Read(msg)
	for _, size := range []int{1, 7, 1024, 200_000} {
		send, recv := halves(1)
		wire := newTranscript(nil)
		if _, err := newConn(wire, send, nil).Write(msg); err != nil {
			t.Fatal(err)
		}
		arriving := &transcript{Reader: iotest.OneByteReader(bytes.NewReader(wire.written.Bytes()))}
		got, err := io.ReadAll(limited{newConn(arriving, nil, recv), size})
		if err != nil || !bytes.Equal(got, msg) {
			t.Errorf("reads of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
}

// limited reads at most max bytes at a time.
type limited struct {
	io.Reader
	max int
}

func (l limited) Read(p []byte) (int, error) { return l.Reader.Read(p[:min(len(p), l.max)]) }
