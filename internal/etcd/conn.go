package etcd

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	maxAnswer = 64 << 10  // of a message
	window    = 128 << 10 // what a member may send in one call, padding and all
	maxFrames = 1 << 10   // of one call
	maxCall   = 10 * time.Second
)

// Conn is a connection to one member, for one call at a time: its methods are called from
// one goroutine, but for Close. After any error but an *Error it is of no further use, and
// closed.
type Conn struct {
	endpoint  string
	conn      net.Conn
	in        *bufio.Reader
	buf       [maxFrame]byte
	out       []byte // what is to be written before the next frame is read
	request   []byte // scratch
	scheme    string
	authority string
	fields    *hpack.Decoder

	next     uint32 // the stream of the next call
	window   int64  // what we may send on the connection
	initial  int64  // what we may send on a new stream
	consumed int    // what the member has sent since it was last allowed more
	frames   int    // that have come since the call began
	dead     error
}

// Close closes the connection, and ends a call that is under way.
func (c *Conn) Close() error { return c.conn.Close() }

// fail closes the connection; what is asked for later does not leave.
func (c *Conn) fail(err error) {
	c.dead = &notSent{fmt.Errorf("the connection to %s is closed since an earlier fault: %w", c.endpoint, err)}
	c.conn.Close()
}

// stream is the stream of a call, and what has come of its answer.
type stream struct {
	id       uint32
	window   int64 // what we may send on it
	answered bool  // the headers have come
	body     []byte
	received int // bytes of DATA frames
	ended    bool
	trailers headers
}

// begin lets ctx, and the longest time of a call, end what the connection waits for. The
// function it returns ends that; false: ctx has ended, and the connection with it.
func (c *Conn) begin(ctx context.Context) func() bool {
	c.frames = 0
	c.conn.SetDeadline(time.Now().Add(maxCall))
	return context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
}

// why returns the reason that an exchange ended: that of the context, if that did. A dial
// notices a deadline a moment before its context does.
func why(ctx context.Context, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if until, bounded := ctx.Deadline(); bounded && !time.Now().Before(until) {
		<-ctx.Done()
	}
	return cmp.Or(context.Cause(ctx), context.DeadlineExceeded)
}

// call sends a request and returns the message that answers it.
func (c *Conn) call(ctx context.Context, method string, needsLeader bool, message []byte) ([]byte, error) {
	if c.dead != nil {
		return nil, c.dead
	}
	if err := ctx.Err(); err != nil {
		return nil, &notSent{err}
	}
	s := &stream{id: c.next, window: c.initial}
	if c.next += 2; s.id > maxWindow {
		c.fail(errors.New("its streams are used up"))
		return nil, c.dead
	}
	end := c.begin(ctx)
	err := c.exchange(s, c.head(method, needsLeader), message)
	if err == nil {
		err = s.trailers.result()
	}
	var answer []byte
	if err == nil {
		answer, err = s.message()
	}
	if _, isStatus := errors.AsType[*Error](err); err != nil && !isStatus {
		err = fmt.Errorf("%s, %s: %w", c.endpoint, method, why(ctx, err))
		c.fail(err)
	}
	if !end() && c.dead == nil {
		c.fail(context.Cause(ctx))
	}
	return answer, err
}

// head returns the headers of a request.
func (c *Conn) head(method string, needsLeader bool) []byte {
	b := appendHeader(nil, ":method", "POST")
	b = appendHeader(b, ":scheme", c.scheme)
	b = appendHeader(b, ":path", "/etcdserverpb."+method)
	b = appendHeader(b, ":authority", c.authority)
	b = appendHeader(b, "content-type", "application/grpc")
	b = appendHeader(b, "te", "trailers")
	if needsLeader {
		b = appendHeader(b, "hasleader", "true")
	}
	return b
}

// exchange sends headers and message and reads until the stream has ended.
func (c *Conn) exchange(s *stream, head, message []byte) error {
	rest := binary.BigEndian.AppendUint32(append(c.request[:0], 0), uint32(len(message)))
	rest = append(rest, message...)
	c.request = rest
	if c.consumed > 0 {
		c.out = appendWindow(c.out, c.consumed)
		c.consumed = 0
	}
	c.out = appendFrame(c.out, frameHeaders, flagEndHeaders, s.id, head)
	for !s.ended {
		rest = c.send(s, rest)
		if err := c.flush(); err != nil {
			return err
		}
		f, err := c.read()
		if err != nil {
			return err
		}
		if err := c.take(s, f); err != nil {
			return err
		}
	}
	if len(rest) > 0 && c.dead == nil {
		c.fail(errors.New("it answered before it had the whole request"))
	}
	return nil
}

// send appends as much of a request to what goes out as flow control allows.
func (c *Conn) send(s *stream, rest []byte) []byte {
	for len(rest) > 0 && c.window > 0 && s.window > 0 {
		n := int(min(int64(len(rest)), c.window, s.window, maxFrame))
		var flags byte
		if n == len(rest) {
			flags = flagEndStream
		}
		c.out = appendFrame(c.out, frameData, flags, s.id, rest[:n])
		c.window -= int64(n)
		s.window -= int64(n)
		rest = rest[n:]
	}
	return rest
}

// flush writes what goes out.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// read reads the next frame.
func (c *Conn) read() (frame, error) {
	if c.frames++; c.frames > maxFrames {
		return frame{}, errors.New("too many frames")
	}
	return readFrame(c.in, &c.buf)
}

// take handles a frame that is no SETTINGS acknowledgement of ours; s is nil as long as
// there is no call.
func (c *Conn) take(s *stream, f frame) error {
	switch f.kind {
	case frameData:
		return c.data(s, f)
	case frameHeaders:
		return c.headers(s, f)
	case frameContinuation:
		return errors.New("CONTINUATION of no headers")
	case frameReset:
		return c.reset(s, f)
	case frameSettings:
		return c.settings(s, f)
	case framePing:
		if !f.has(flagAck) {
			c.out = appendFrame(c.out, framePing, flagAck, 0, f.payload)
		}
	case frameGoAway:
		return c.goAway(s, f)
	case frameWindow:
		return c.windowUpdate(s, f)
	}
	return nil
}

// data takes a part of the message.
func (c *Conn) data(s *stream, f frame) error {
	b, err := f.content()
	switch {
	case err != nil:
		return err
	case s == nil || f.stream != s.id || !s.answered:
		return fmt.Errorf("DATA on stream %d, where none is due", f.stream)
	}
	c.consumed += len(f.payload)
	s.received += len(f.payload)
	if s.received > window {
		return errors.New("more DATA than flow control allows")
	}
	if len(s.body)+len(b) > 5+maxAnswer {
		return fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	s.body = append(s.body, b...)
	if f.has(flagEndStream) {
		return errors.New("an answer without trailers")
	}
	return nil
}

// headers takes those of the answer, or its trailers.
func (c *Conn) headers(s *stream, f frame) error {
	block, err := c.block(f)
	if err != nil {
		return err
	}
	if s == nil || f.stream != s.id {
		return fmt.Errorf("HEADERS on stream %d, where none are due", f.stream)
	}
	h, err := readHeaders(c.fields, block)
	last := f.has(flagEndStream)
	switch {
	case err != nil:
		return err
	case s.answered && h.status != "":
		return errors.New("trailers with a status of HTTP")
	case s.answered && !last:
		return errors.New("trailers that do not end the stream")
	case !s.answered && h.informational():
		if last {
			return errors.New("an informational answer that ends the stream")
		}
		return nil
	case !s.answered:
		if err := h.isGRPC(); err != nil {
			return err
		}
	}
	s.answered = true
	if last {
		s.trailers, s.ended = h, true
	}
	return nil
}

// block returns a whole block of headers, with its CONTINUATION frames.
func (c *Conn) block(f frame) ([]byte, error) {
	b, err := f.content()
	if err != nil || f.has(flagEndHeaders) {
		return b, err
	}
	b = slices.Clone(b)
	for {
		more, err := c.read()
		switch {
		case err != nil:
			return nil, err
		case more.kind != frameContinuation || more.stream != f.stream:
			return nil, fmt.Errorf("a frame of kind %d between headers", more.kind)
		case len(b)+len(more.payload) > maxHeaders:
			return nil, errors.New("too many headers")
		}
		b = append(b, more.payload...)
		if more.has(flagEndHeaders) {
			return b, nil
		}
	}
}

// reset takes RST_STREAM. One of an earlier stream, which has ended, says nothing.
func (c *Conn) reset(s *stream, f frame) error {
	code := binary.BigEndian.Uint32(f.payload)
	switch {
	case s == nil || f.stream > s.id || f.stream%2 == 0:
		return fmt.Errorf("RST_STREAM on stream %d, which there is not", f.stream)
	case f.stream < s.id:
		return nil
	case code == resetRefused && !s.answered:
		return &notSent{errors.New("the member refuses another stream")}
	}
	return fmt.Errorf("the member has reset the stream, code %d", code)
}

// settings takes SETTINGS of the member, and acknowledges them.
func (c *Conn) settings(s *stream, f frame) error {
	if f.has(flagAck) {
		return nil
	}
	for b := f.payload; len(b) > 0; b = b[6:] {
		id, value := binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])
		switch {
		case id == settingFrame && (value < maxFrame || value >= 1<<24), id == settingPush && value > 0, id == settingWindow && value > maxWindow:
			return fmt.Errorf("SETTINGS %d of %d", id, value)
		case id == settingWindow:
			if s != nil {
				s.window += int64(value) - c.initial
			}
			c.initial = int64(value)
		}
	}
	if s != nil && s.window > maxWindow {
		return errors.New("SETTINGS that open a window too far")
	}
	c.out = appendFrame(c.out, frameSettings, flagAck, 0, nil)
	return nil
}

// goAway takes GOAWAY: streams above the one that it names were not processed, and will
// not be; one that it names, or below, is answered.
func (c *Conn) goAway(s *stream, f frame) error {
	last, code := binary.BigEndian.Uint32(f.payload)&maxWindow, binary.BigEndian.Uint32(f.payload[4:])
	err := fmt.Errorf("the member goes away, code %d", code)
	if s == nil || last < s.id {
		return &notSent{err}
	}
	if c.dead == nil {
		c.dead = &notSent{fmt.Errorf("%s: %w", c.endpoint, err)}
	}
	return nil
}

// windowUpdate lets us send more.
func (c *Conn) windowUpdate(s *stream, f frame) error {
	more := int64(binary.BigEndian.Uint32(f.payload) & maxWindow)
	var of *int64
	switch {
	case f.stream == 0:
		of = &c.window
	case s != nil && f.stream == s.id:
		of = &s.window
	case s == nil || f.stream > s.id || f.stream%2 == 0:
		return fmt.Errorf("WINDOW_UPDATE on stream %d, which there is not", f.stream)
	default:
		return nil // of an earlier stream
	}
	if *of += more; more == 0 || *of > maxWindow {
		return errors.New("WINDOW_UPDATE of nothing, or too far")
	}
	return nil
}

// message returns the one message of an answer whose status is OK: a flag that it is not
// compressed, its length, and that many bytes.
func (s *stream) message() ([]byte, error) {
	b := s.body
	switch {
	case len(b) < 5:
		return nil, errors.New("an answer without a message")
	case b[0] != 0:
		return nil, errors.New("a compressed message, and we asked for none")
	case uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5):
		return nil, errors.New("an answer that is not one message")
	}
	return b[5:], nil
}
