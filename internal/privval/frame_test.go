package privval_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/encoding/protowire"

	"privyseal/internal/privval"
	"privyseal/internal/privval/privvaltest"
)

// readAll reads frames until the first error.
func readAll(r io.Reader) (payloads [][]byte, err error) {
	in := bufio.NewReaderSize(r, 16)
	var buf []byte
	for {
		if buf, err = privval.ReadFrame(in, buf); err != nil {
			return payloads, err
		}
		payloads = append(payloads, bytes.Clone(buf))
	}
}

// splits is the same stream as a network may deliver it.
var splits = map[string]func(io.Reader) io.Reader{
	"byte by byte":          iotest.OneByteReader,
	"half of it":            iotest.HalfReader,
	"the end with the data": iotest.DataErrReader,
	"all at once":           func(r io.Reader) io.Reader { return r },
}

func TestReadFrameInAnySplit(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, v := range readVectors(t, "v038") {
		want = append(want, v.request)
		stream = protowire.AppendBytes(stream, v.request)
	}
	want = append(want, []byte{}, bytes.Repeat([]byte{1}, privval.MaxRequest))
	stream = protowire.AppendBytes(append(stream, 0), want[len(want)-1])
	for name, split := range splits {
		got, err := readAll(split(bytes.NewReader(stream)))
		if err != io.EOF || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: %d frames, want %d; %v", name, len(got), len(want), err)
		}
	}
}

func TestReadFrameRefuses(t *testing.T) {
	limit := protowire.AppendVarint(nil, privval.MaxRequest+1)
	for _, c := range []struct {
		name   string
		stream []byte
		want   string
	}{
		{"the end within a length", []byte{0x80}, "unexpected EOF"},
		{"the end within two bytes of a length", []byte{0x80, 0x80}, "unexpected EOF"},
		{"the end behind a length", []byte{5}, "message of 5 bytes: unexpected EOF"},
		{"the end within a message", []byte{5, 1, 2}, "message of 5 bytes: unexpected EOF"},
		{"one over the limit", limit, "1056219 bytes: the limit is 1056218"},
		{"the most of three bytes", []byte{0xff, 0xff, 0x7f}, "2097151 bytes: the limit is 1056218"},
		{"four bytes of length", []byte{0x80, 0x80, 0x80, 1}, "over the limit"},
		{"a length that does not end", bytes.Repeat([]byte{0xff}, 20), "over the limit"},
		{"a long zero", []byte{0x80, 0}, "not in the shortest form"},
		{"a long one", []byte{0x81, 0x80, 0}, "not in the shortest form"},
		{"a TLS hello", []byte("\x16\x03\x01\x02\x00\x01\x00"), "message of 22 bytes: unexpected EOF"},
	} {
		for how, split := range splits {
			payloads, err := readAll(split(bytes.NewReader(c.stream)))
			if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) || len(payloads) > 0 {
				t.Errorf("%s, %s: %v does not say %q", c.name, how, err, c.want)
			}
		}
	}
}

// The caller can distinguish a network's error from a bad message.
func TestReadFrameKeepsTheCause(t *testing.T) {
	for _, stream := range []string{"", "\x80", "\x05ab"} {
		r := io.MultiReader(strings.NewReader(stream), iotest.ErrReader(io.ErrClosedPipe))
		if _, err := readAll(r); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %q: %v", stream, err)
		}
	}
}

// A claim is no reason to allocate, neither of a frame nor within one.
func TestClaimsCostNoMemory(t *testing.T) {
	over := protowire.AppendVarint(nil, privval.MaxRequest+1)
	inside := str(3, append([]byte{0x0a}, protowire.AppendVarint(nil, 1<<40)...))
	for name, do := range map[string]func(){
		"a frame over the limit":   func() { privval.ReadFrame(bufio.NewReaderSize(bytes.NewReader(over), 16), nil) },
		"a vote of a terabyte":     func() { privval.Decode(inside) },
		"sign bytes of a terabyte": func() { privval.ParseSignBytes(protowire.AppendVarint(nil, 1<<40)) },
		"raw bytes of a terabyte":  func() { privval.LooksCanonical(protowire.AppendVarint([]byte{0x0a}, 1<<40)) },
	} {
		if n := allocated(do); n > 4096 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// allocated returns how many bytes one of many calls of do allocates.
func allocated(do func()) uint64 {
	const calls = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		do()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / calls
}

// The memory of the largest message so far is used again.
func TestReadFrameReusesItsBuffer(t *testing.T) {
	r := precommit(func(r *privval.Request) { r.Extension = make([]byte, 1<<20) })
	stream := protowire.AppendBytes(nil, privvaltest.EncodeRequest(r))
	buf := make([]byte, 0, privval.MaxRequest)
	in := bytes.NewReader(nil)
	buffered := bufio.NewReader(in)
	if n := allocated(func() {
		in.Reset(stream)
		buffered.Reset(in)
		payload, err := privval.ReadFrame(buffered, buf)
		if err != nil || &payload[0] != &buf[:1][0] {
			t.Fatal("not in the buffer that was given:", err)
		}
	}); n > 4096 {
		t.Errorf("%d bytes allocated", n)
	}
}

// FuzzReadFrame: every split of a stream is the same stream, and what is read
// is what would be written.
func FuzzReadFrame(f *testing.F) {
	ping := privvaltest.EncodeRequest(privval.Request{Kind: privval.KindPing})
	one := protowire.AppendBytes(nil, ping)
	f.Add(one)
	f.Add(append(bytes.Clone(one), one...))
	f.Add(append(bytes.Clone(one), 0x80))
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0x3f})
	f.Add([]byte{0x80, 0x80, 0x00})
	f.Add(protowire.AppendBytes(nil, make([]byte, 300)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		want, wantErr := readAll(bytes.NewReader(stream))
		var written []byte
		for _, p := range want {
			written = protowire.AppendBytes(written, p)
		}
		if !bytes.HasPrefix(stream, written) {
			t.Fatalf("read %x from %x", written, stream)
		}
		if wantErr == io.EOF && len(written) != len(stream) {
			t.Fatalf("%d bytes of %d were read, and no error", len(written), len(stream))
		}
		for name, split := range splits {
			got, err := readAll(split(bytes.NewReader(stream)))
			if !slices.EqualFunc(got, want, bytes.Equal) || err.Error() != wantErr.Error() {
				t.Fatalf("%s: %d frames, %v; all at once %d frames, %v", name, len(got), err, len(want), wantErr)
			}
		}
	})
}

// A frame that a node sends in two parts is not there with the first one.
func TestFrameBuffered(t *testing.T) {
	frame := append([]byte{0x80, 0x01}, make([]byte, 128)...)
	for n := range len(frame) + 1 {
		r := bufio.NewReader(bytes.NewReader(frame[:n]))
		r.Peek(1)
		if got := privval.FrameBuffered(r); got != (n == len(frame)) {
			t.Errorf("%d bytes of %d are a frame: %v", n, len(frame), got)
		}
	}
}
