// Package sharing is the mark of a chain in an enclave that is in a database, as the host meets
// it: what the enclave is asked to do with it, and what it needs to reach the database. The host
// reads no mark but what the enclave says of it.
package sharing

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/hostlink"
	"privyseal/internal/policy"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedstate"
	"privyseal/internal/watermark"
)

// Enclave is one that runs, and that is connected to KMS and to the database.
type Enclave interface {
	// Ask fills in the credentials of a Share.
	Ask(ctx context.Context, share *hostlink.Share) (*hostlink.Shared, error)
	// Floor is the measured state_floor of a chain, 0 without one.
	Floor(chainID string) int64
	Close()
}

// Signer is who reads and writes a mark: a [sharedstate.Signer].
type Signer struct {
	ChainID string
	Key     string // path of the wrapped key
	Members provider.Members
	Open    func(context.Context) (Enclave, error)
}

// Share implements [sharedstate.Signer].
func (s Signer) Share(ctx context.Context, do string, state, floor []byte) (done sharedstate.Done, err error) {
	key, err := read(s.Key)
	if err != nil {
		return done, err
	}
	db, err := Of(s.Members)
	if err != nil {
		return done, err
	}
	share := &hostlink.Share{Do: do, ChainID: s.ChainID, Wrapped: key, State: state, Floor: floor}
	if share.Etcd, share.DynamoDB, err = db.boot(); err != nil {
		return done, err
	}
	e, err := s.Open(ctx)
	if err != nil {
		return done, err
	}
	defer e.Close()
	share.AfterHeight = e.Floor(s.ChainID)
	out, err := e.Ask(ctx, share)
	if err != nil {
		return done, err
	}
	if done.Floor, err = hostlink.HostMark(out.Floor); err != nil {
		return done, fmt.Errorf("the enclave sent no floor: %w", err)
	}
	done.Now = watermark.Mark{Height: out.At.Height, Round: out.At.Round, Step: watermark.Step(out.At.Step)}
	if do == sharedstate.ToExport {
		if done.State.Mark, err = hostlink.HostMark(out.State); err != nil {
			err = fmt.Errorf("the enclave sent no state: %w", err)
		}
	}
	return done, err
}

// Known implements [sharedstate.Signer].
func (Signer) Known(floor watermark.Mark) (known watermark.Mark, exported bool, err error) {
	r, err := hostlink.ReadRecord(floor.SignBytes)
	if err != nil {
		return known, false, fmt.Errorf("what this host keeps is no floor of an enclave: %w", err)
	}
	return sharedmark.Known(r.Mark)
}

// Signed returns the mark that a record of the enclave says is signed next, or was.
func Signed(r hostlink.Record) watermark.Mark {
	if known, _, err := sharedmark.Known(r.Mark); err == nil {
		return known
	}
	return r.Mark
}

// Ask asks a running enclave for something.
type Ask func(context.Context, hostlink.Request) (hostlink.Reply, error)

// Look asks for the mark of a chain as the database has it, at least up to one.
func Look(ctx context.Context, ask Ask, chainID string, upTo watermark.Mark) (watermark.Mark, error) {
	reply, err := ask(ctx, hostlink.Request{Look: &hostlink.Look{ChainID: chainID, Height: upTo.Height, Round: upTo.Round, Step: uint8(upTo.Step)}})
	switch m := reply.Looked; {
	case err != nil:
		return watermark.Mark{}, err
	case m == nil:
		return watermark.Mark{}, errors.New("the enclave does not say where the mark is")
	default:
		return watermark.Mark{Height: m.Height, Round: m.Round, Step: watermark.Step(m.Step), SignBytes: m.SignBytes}, nil
	}
}

// FloorID returns what the enclave calls the floor of a mark.
func FloorID(id watermark.ID) watermark.ID { return sharedmark.Config{ID: id}.FloorID() }

// Conversation is one with an enclave, as package enclaveask has it.
type Conversation interface {
	Call(ctx context.Context, req hostlink.Request) (hostlink.Reply, error)
	Close()
}

// Asking is an enclave of a conversation. It is an [Enclave].
type Asking struct {
	Conversation
	Credentials hostlink.Credentials
	Policy      *policy.Policy // that it is measured with
}

// Ask implements [Enclave].
func (a Asking) Ask(ctx context.Context, share *hostlink.Share) (*hostlink.Shared, error) {
	share.Credentials = a.Credentials
	reply, err := a.Call(ctx, hostlink.Request{Share: share})
	if err == nil && reply.Shared == nil {
		err = errors.New("the enclave does not say what it has done")
	}
	return reply.Shared, err
}

// Floor implements [Enclave].
func (a Asking) Floor(chainID string) int64 { return a.Policy.StateFloor[chainID] }
