package secretconn

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestMessages(t *testing.T) {
	a, b := tcpPair(t)
	ca, cb := clients(t, a, b)
	msg := make([]byte, 1<<20)
	rand.Read(msg)
	sizes := []int{0, 1, 2, 1023, 1024, 1025, 2047, 2048, 2049, batchMax - 1, batchMax, batchMax + 1, 1 << 20}
	for _, size := range sizes {
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
	ca, cb := clients(t, a, b)
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
	ca, cb := clients(t, wire, b)
	for size, want := range map[int]int{0: 0, 1: 1, 250: 1, 1025: 1, batchMax: 1, batchMax + 1: 2, 1 << 20: 16} {
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
		{"first byte turned", func(r records) records { r[1][0] ^= 1; return r }, "one", errForged},
		{"chunk turned", func(r records) records { r[1][5] ^= 0x80; return r }, "one", errForged},
		{"padding turned", func(r records) records { r[1][frameSize-1] ^= 1; return r }, "one", errForged},
		{"tag turned", func(r records) records { r[1][sealedSize-1] ^= 1; return r }, "one", errForged},
		{"replayed", func(r records) records { return records{r[0], r[0], r[1]} }, "one", errForged},
		{"swapped", func(r records) records { return records{r[0], r[2], r[1]} }, "one", errForged},
		{"first left out", func(r records) records { return r[1:] }, "", errForged},
		{"one left out", func(r records) records { return records{r[0], r[2]} }, "one", errForged},
		{"last left out", func(r records) records { return r[:2] }, "onetwo", nil},
		{"last cut by a byte", func(r records) records { r[2] = r[2][:sealedSize-1]; return r }, "onetwo", io.ErrUnexpectedEOF},
		{"last cut to a byte", func(r records) records { r[2] = r[2][:1]; return r }, "onetwo", io.ErrUnexpectedEOF},
		{"byte pushed in", func(r records) records { r[1] = append([]byte{0}, r[1]...); return r }, "one", errForged},
		{"byte appended", func(r records) records { return append(r, []byte{0}) }, all, io.ErrUnexpectedEOF},
		{"zeros appended", func(r records) records { return append(r, make([]byte, sealedSize)) }, all, errForged},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			send, recv := halves(t)
			var r records
			for _, text := range []string{"one", "two", "three"} {
				sealed, err := send.seal(nil, []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				r = append(r, sealed)
			}
			got, err := readStream(recv, slices.Concat(tc.tamper(r)...))
			if string(got) != tc.read || !errors.Is(err, tc.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.read, tc.err)
			}
		})
	}
}

func TestRecordOfAnotherConnection(t *testing.T) {
	send, _ := halves(t)
	_, recv := halves(t)
	sealed, err := send.seal(nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readStream(recv, sealed); len(got) > 0 || !errors.Is(err, errForged) {
		t.Errorf("got %q, %v", got, err)
	}
}

// After a forged record nothing is read any more, not even what would
// authenticate.
func TestForgedRecordEndsReading(t *testing.T) {
	a, b := tcpPair(t)
	ca, cb := clients(t, a, b)
	sealed, err := ca.send.seal(nil, []byte("bad"))
	if err == nil {
		sealed, err = ca.send.seal(sealed, []byte("good"))
	}
	if err != nil {
		t.Fatal(err)
	}
	sealed[0] ^= 1
	if _, err := a.Write(sealed); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := cb.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errForged) {
			t.Fatalf("read %d bytes, %v", n, err) // the next one waits
		}
	}
}

// A deadline may pass in the middle of a record.
func TestDeadlineKeepsHalfRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			defer theirs.Close()
			p := newPeer(t, theirs)
			p.send(p.hello())
			p.send(p.sealed(p.auth()))
			record := p.sealed([]byte("request"))
			p.send(record[:500])
			time.Sleep(time.Minute)
			p.send(record[500:])
		}()
		c, err := Client(ours, newIdentity(), "")
		if err != nil {
			t.Fatal(err)
		}
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

// The peer may have half a record: nothing may follow it.
func TestFailedWriteEndsWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		send, _ := halves(t)
		wire := &counted{Conn: ours}
		c := &Conn{conn: wire, send: send}
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

// The buffer of a write is used again: padding says nothing of what was in it.
func TestPaddingIsZero(t *testing.T) {
	send, recv := halves(t)
	buf := bytes.Repeat([]byte("secret"), sealedSize)
	for _, size := range []int{1, 100, chunkMax - 1, chunkMax} {
		sealed, err := send.seal(buf[:0], make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		var frame [frameSize]byte
		if _, err := recv.open(&frame, sealed); err != nil {
			t.Fatal(err)
		}
		if rest := frame[lengthSize:]; !bytes.Equal(rest, make([]byte, len(rest))) {
			t.Errorf("a chunk of %d zeros is padded with %q", size, bytes.Trim(rest, "\x00"))
		}
		copy(buf, bytes.Repeat([]byte("secret"), sealedSize))
	}
}

func TestNoncesRunOut(t *testing.T) {
	send, recv := halves(t)
	send.count, recv.count = math.MaxUint64-1, math.MaxUint64-1
	last, err := send.seal(nil, []byte("last"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send.seal(nil, []byte("x")); !errors.Is(err, errExhausted) {
		t.Errorf("sending: got %v, want %v", err, errExhausted)
	}
	got, err := readStream(recv, append(last, last...))
	if string(got) != "last" || !errors.Is(err, errExhausted) {
		t.Errorf("receiving: got %q, %v", got, err)
	}
}

// Reads of any size make the same stream, however the records arrive.
func TestReadsOfAnySize(t *testing.T) {
	send, recv := halves(t)
	msg := make([]byte, 5000)
	rand.Read(msg)
	wire := newTranscript(nil)
	if _, err := (&Conn{conn: wire, send: send}).Write(msg); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 1024, 5000} {
		arriving := iotest.OneByteReader(bytes.NewReader(wire.written.Bytes()))
		c := &Conn{in: bufio.NewReaderSize(arriving, readBuffer), recv: recv}
		got, err := io.ReadAll(limited{c, size})
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

func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{200, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := tcpPair(b)
			ca, cb := clients(b, x, y)
			ca.SetDeadline(time.Time{})
			cb.SetDeadline(time.Time{})
			go io.Copy(cb, cb)
			msg := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := say(ca, ca, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
