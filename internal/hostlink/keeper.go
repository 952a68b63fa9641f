package hostlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"privyseal/internal/watermark"
)

// Keeper is the host's end of the state of one chain and key: it puts an
// enclave's records into a store of the host and acknowledges what is durable.
// It cannot distinguish an authentic record from one made up, and need not: it keeps
// bytes, and looks at their sequence number.
//
// The host's store holds each record as the sign bytes of a mark with the same
// height, round and step. (A fresh state, which has no step, stands there as
// the proposal of height 0.)
type Keeper struct {
	ID    watermark.ID
	Store watermark.Store

	// Acked is called for every record that became durable. It may be nil.
	Acked func(Record)

	mu     sync.Mutex // one record at a time, whatever number of enclaves ask
	saved  watermark.Saved
	loaded bool
}

// HostMark returns the mark under which the host stores a sealed record.
func HostMark(sealed []byte) (watermark.Mark, error) {
	r, err := ReadRecord(sealed)
	if err != nil {
		return watermark.Mark{}, err
	}
	return hostMark(r, sealed), nil
}

func hostMark(r Record, sealed []byte) watermark.Mark {
	return watermark.Mark{Height: r.Mark.Height, Round: r.Mark.Round, Step: max(r.Mark.Step, watermark.StepProposal), SignBytes: sealed}
}

// ReadStateOpen reads the first frame of a connection to StatePort: which state
// the enclave means.
func ReadStateOpen(r io.Reader) (watermark.ID, error) {
	frame, err := readFrame(r, 256)
	if err != nil {
		return watermark.ID{}, err
	}
	if len(frame) < 34 || len(frame) > 33+watermark.MaxChainID || frame[0] != frameOpen {
		return watermark.ID{}, errors.New("the enclave did not say which state it means")
	}
	return watermark.ID{Key: [32]byte(frame[1:33]), ChainID: string(frame[33:])}, nil
}

// RefuseState answers the opening of a state with an error.
func RefuseState(w io.Writer, err error) error {
	text := err.Error()
	return writeFrame(w, append([]byte{frameError}, text[:min(len(text), 512)]...))
}

// Serve answers a connection that was opened for this state, until it ends.
func (k *Keeper) Serve(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	current, err := k.current(ctx)
	if err != nil {
		return errors.Join(err, RefuseState(conn, err))
	}
	if err := writeFrame(conn, append([]byte{frameCurrent}, current...)); err != nil {
		return err
	}
	for {
		frame, err := readFrame(conn, 1+MaxRecord)
		if err != nil {
			return err
		}
		if len(frame) == 0 || frame[0] != framePut {
			return errors.New("the enclave sent something that is not a record")
		}
		kind, body, err := k.put(ctx, frame[1:])
		if err != nil {
			return errors.Join(err, RefuseState(conn, err))
		}
		if err := writeFrame(conn, append([]byte{kind}, body...)); err != nil {
			return err
		}
	}
}

func (k *Keeper) current(ctx context.Context) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(ctx); err != nil {
		return nil, err
	}
	return k.saved.Mark.SignBytes, nil
}

// load reads the store if what it holds is not known.
func (k *Keeper) load(ctx context.Context) (err error) {
	if k.loaded {
		return nil
	}
	if k.saved, err = k.Store.Load(ctx); err != nil {
		return err
	}
	if len(k.saved.Mark.SignBytes) == 0 {
		return fmt.Errorf("the state at %v holds no record of an enclave", k.saved.Mark)
	}
	k.loaded = true
	return nil
}

// put makes a record durable, if it is above the current one or the same.
func (k *Keeper) put(ctx context.Context, sealed []byte) (kind byte, body []byte, err error) {
	next, err := ReadRecord(sealed)
	if err != nil {
		return 0, nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(ctx); err != nil {
		return 0, nil, err
	}
	if bytes.Equal(k.saved.Mark.SignBytes, sealed) {
		return frameAck, sealed, nil
	}
	now, err := ReadRecord(k.saved.Mark.SignBytes)
	if err != nil {
		return 0, nil, err
	}
	if next.Seq <= now.Seq {
		return frameMoved, k.saved.Mark.SignBytes, nil
	}
	saved, err := k.Store.Replace(ctx, k.saved, hostMark(next, sealed))
	if err != nil {
		// Unknown outcome: what is there is read again before the next answer.
		k.loaded = false
		return 0, nil, err
	}
	k.saved = saved
	if k.Acked != nil {
		k.Acked(next)
	}
	return frameAck, sealed, nil
}
