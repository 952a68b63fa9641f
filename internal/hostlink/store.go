package hostlink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"privyseal/internal/watermark"
)

// The state protocol. The enclave dials StatePort once for each chain and key,
// and asks; the host answers each frame with one. The first byte of a frame
// says what it is.
const (
	frameOpen    = 'O' // enclave: key id (32 bytes), chain id. First on a connection
	framePut     = 'P' // enclave: a sealed record that is to be durable
	frameCurrent = 'R' // host: answer to Open, the sealed record that it holds
	frameAck     = 'A' // host: the sealed record that is durable now
	frameMoved   = 'M' // host: the sealed record that stands against the Put
	frameError   = 'E' // host: text
)

// ErrReplay says that the host insists on a record that is older than ours.
var ErrReplay = errors.New("the host gave back an older state")

// Store is a [watermark.Store] whose bytes the host keeps. The zero value is of
// no use; all exported fields are required.
//
// It follows the host only once, at its first load. From then on a load sends
// the last record, acknowledged or not, again, and takes nothing else from the
// host but an authentic record above it: that of a twin, which is a reason to
// decide again and never to go back.
type Store struct {
	// Dial connects to the host's StatePort.
	Dial func(context.Context) (net.Conn, error)
	ID   watermark.ID
	Key  Key
	Boot [16]byte

	conn   net.Conn
	in     *bufio.Reader // of conn
	until  time.Time     // the deadline of conn
	last   Record        // loaded, or sent last
	sealed []byte        // last
	loaded bool          // last is valid
	ready  bool          // last was acknowledged, and nothing failed since
}

var _ watermark.Store = (*Store)(nil)

// Load implements [watermark.Store].
func (s *Store) Load(ctx context.Context) (watermark.Saved, error) {
	s.ready = false
	current, err := s.connect(ctx)
	if err != nil {
		return watermark.Saved{}, err
	}
	if !s.loaded {
		if err := s.follow(current); err != nil {
			return watermark.Saved{}, err
		}
		s.loaded = true
	}
	for {
		err := s.put(ctx, s.sealed)
		if err == nil {
			s.ready = true
			return s.saved(), nil
		}
		moved, ok := errors.AsType[*movedError](err)
		if !ok {
			return watermark.Saved{}, err
		}
		// A twin's record, which is then ours to resend. Each is above the last.
		if err := s.follow(moved.sealed); err != nil {
			return watermark.Saved{}, err
		}
	}
}

// follow takes over a record of the host's, if it is authentic and, after the
// first load, above what we have.
func (s *Store) follow(sealed []byte) error {
	r, err := s.Key.Open(s.ID, sealed)
	if err != nil {
		return err
	}
	// A twin's record at our very mark with other bytes is not a state of ours either:
	// we have signed ours.
	if s.loaded && (r.Seq <= s.last.Seq || !s.last.Mark.Less(r.Mark) && !s.last.Mark.Equal(r.Mark)) {
		return fmt.Errorf("%w: record %d at %v, ours is %d at %v", ErrReplay, r.Seq, r.Mark, s.last.Seq, s.last.Mark)
	}
	s.last, s.sealed = r, bytes.Clone(sealed)
	return nil
}

// Replace implements [watermark.Store].
func (s *Store) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if !s.ready {
		return watermark.Saved{}, errors.New("the state has to be loaded again: the host did not acknowledge the last record")
	}
	if old.Version != s.last.Seq {
		return watermark.Saved{}, watermark.ErrMoved
	}
	s.ready = false
	if !s.last.Mark.Less(m) {
		return watermark.Saved{}, fmt.Errorf("cannot record %v: it is not above %v", m, s.last.Mark)
	}
	// No number of ours twice, also if the host says that it did not take the last
	// record: what was sent is last, or a twin's with that number or a higher one.
	next := Record{Seq: s.last.Seq + 1, Boot: s.Boot, Time: time.Now(), Mark: m}
	sealed, err := s.Key.Seal(s.ID, next)
	if err != nil {
		return watermark.Saved{}, err
	}
	if err := s.put(ctx, sealed); err != nil {
		if moved, ok := errors.AsType[*movedError](err); ok && s.follow(moved.sealed) == nil {
			// A twin was quicker, and nothing of ours was written.
			return watermark.Saved{}, watermark.ErrMoved
		}
		// The host may have it, or may get it still, whatever it says: from here on it
		// is ours.
		s.last, s.sealed = next, sealed
		return watermark.Saved{}, err
	}
	s.last, s.sealed, s.ready = next, sealed, true
	return s.saved(), nil
}

// Close implements [watermark.Store].
func (s *Store) Close() error {
	s.ready = false
	return s.drop(nil)
}

func (s *Store) saved() watermark.Saved {
	return watermark.Saved{Mark: s.last.Mark, Version: s.last.Seq, Time: s.last.Time}
}

// movedError carries the record that the host holds against a Put.
type movedError struct{ sealed []byte }

func (*movedError) Error() string { return "the host holds another record of the state" }

// connect dials again and returns the host's record. A connection that stood is
// ended.
func (s *Store) connect(ctx context.Context) ([]byte, error) {
	s.drop(nil)
	conn, err := s.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the host for the state: %w", err)
	}
	s.conn, s.in, s.until = conn, bufio.NewReader(conn), time.Time{}
	open := append([]byte{frameOpen}, s.ID.Key[:]...)
	kind, body, err := s.call(ctx, append(open, s.ID.ChainID...))
	if err != nil {
		return nil, err
	}
	if kind != frameCurrent {
		return nil, s.drop(fmt.Errorf("the host answered %q to the opening of the state", kind))
	}
	return body, nil
}

// put sends a record and waits until the host has it on its disk.
func (s *Store) put(ctx context.Context, sealed []byte) error {
	if s.conn == nil {
		return errors.New("there is no connection to the host for the state")
	}
	kind, body, err := s.call(ctx, append([]byte{framePut}, sealed...))
	switch {
	case err != nil:
		return err
	case kind == frameAck && bytes.Equal(body, sealed):
		return nil
	case kind == frameMoved:
		return &movedError{bytes.Clone(body)}
	}
	// An acknowledgement of something else: delayed, duplicated, or made up.
	return s.drop(errors.New("the host acknowledged another record than the one that it was sent"))
}

// slack is by how much a call may end after its context's deadline.
const slack = time.Second

// call sends one frame and reads one. The connection is dropped on any error,
// so that no late answer is taken for that of another request.
func (s *Store) call(ctx context.Context, frame []byte) (kind byte, body []byte, err error) {
	// What watches ctx below may come too late for one that has ended already.
	if err := ctx.Err(); err != nil {
		return 0, nil, s.drop(fmt.Errorf("cannot ask the host about the state: %w", err))
	}
	conn := s.conn
	if deadline, ok := ctx.Deadline(); !ok {
		defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	} else if s.until.Before(deadline) || s.until.After(deadline.Add(slack)) {
		// Not for each call: a deadline is a timer, and dear in an enclave.
		s.until = deadline.Add(slack)
		if err := conn.SetDeadline(s.until); err != nil {
			return 0, nil, s.drop(err)
		}
	}
	if err := writeFrame(conn, frame); err != nil {
		return 0, nil, s.drop(fmt.Errorf("cannot send the state to the host: %w", err))
	}
	answer, err := readFrame(s.in, 1024)
	if err != nil {
		return 0, nil, s.drop(fmt.Errorf("no answer about the state from the host: %w", err))
	}
	if len(answer) == 0 {
		return 0, nil, s.drop(errors.New("an empty answer about the state from the host"))
	}
	if answer[0] == frameError {
		return 0, nil, s.drop(fmt.Errorf("the host cannot keep the state: %q", answer[1:]))
	}
	return answer[0], answer[1:], nil
}

// drop closes the connection and returns err.
func (s *Store) drop(err error) error {
	if s.conn == nil {
		return err
	}
	closeErr := s.conn.Close()
	s.conn = nil
	if err == nil {
		return closeErr
	}
	return err
}
