package enclave

import (
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/key/soft"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// share does something with the mark of a chain in the database of the policy. The floor of this host comes and
// goes with the request: nothing is signed here.
func (e *enclave) share(ctx context.Context, req *hostlink.Share) (*hostlink.Shared, error) {
	if err := e.needsDatabase(); err != nil {
		return nil, err
	}
	if e.chains[req.ChainID] != nil {
		return nil, &curedError{errors.New("this enclave signs for the chain already"), "restart the enclave first: " + e.c.Cures.Restart}
	}
	if err := e.adoptable(req); err != nil {
		return nil, err
	}
	key, _, err := e.open(ctx, req.Credentials, req.Wrapped, req.ChainID)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	db, err := e.databaseOf(ctx, req)
	if err != nil {
		return nil, err
	}
	s, err := e.newSharing(req, key, db)
	if err != nil {
		return nil, err
	}
	return s.run(ctx, req)
}

// databaseOf returns the database of the policy, as a request has it.
func (e *enclave) databaseOf(ctx context.Context, req *hostlink.Share) (database, error) {
	if err := e.fits(req.Etcd, req.DynamoDB); err != nil {
		return nil, err
	}
	if req.DynamoDB != nil {
		return e.openTable(req.DynamoDB), nil
	}
	return e.openMembers(ctx, req.Etcd, req.Credentials)
}

// adoptable refuses an adoption without a measured floor: what is there after a restore may
// be older than what was signed, and the floor of a host is of its own choice.
func (e *enclave) adoptable(req *hostlink.Share) error {
	if req.Do != hostlink.ShareAdopt {
		return nil
	}
	floor, ok := e.c.Policy.StateFloor[req.ChainID]
	switch {
	case !ok:
		return &curedError{
			fmt.Errorf("the measured policy has no state_floor for chain %q, and without one a restored mark is never adopted", req.ChainID),
			"boot an enclave whose policy has one, well above the chain's height; " + e.c.Cures.LostState + ", has all steps",
		}
	case req.AfterHeight < floor:
		return &curedError{fmt.Errorf("height %d is below the measured state_floor of %d", req.AfterHeight, floor), fmt.Sprintf("give --after-height %d or more", floor)}
	}
	return nil
}

// sharing is one request about a mark in a database.
type sharing struct {
	e      *enclave
	id     watermark.ID
	mac    hostlink.Key
	floor  *carried
	config func() (sharedmark.Config, error) // for one use
}

// carried is a floor that the host gave with a request and gets back with the answer.
type carried struct{ saved watermark.Saved }

func (c *carried) Load(context.Context) (watermark.Saved, error) { return c.saved, nil }

func (c *carried) Replace(_ context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	if old.Version != c.saved.Version {
		return watermark.Saved{}, watermark.ErrMoved
	}
	c.saved = watermark.Saved{Mark: m, Version: old.Version + 1, Time: time.Now()}
	return c.saved, nil
}

func (c *carried) Close() error { return nil }

func (e *enclave) newSharing(req *hostlink.Share, key *soft.Key, db database) (*sharing, error) {
	mac, err := hostlink.RecordKey(key)
	if err != nil {
		return nil, err
	}
	id := stateID(req.ChainID, key)
	s := &sharing{e: e, id: id, mac: mac, floor: &carried{}}
	// Above all numbers and heights that an earlier floor of this host can have.
	s.floor.saved.Version = uint64(time.Now().Unix()) << 20
	s.floor.saved.Mark.Height = time.Now().UnixMilli()
	if len(req.Floor) > 0 {
		r, err := mac.Open(sharedmark.Config{ID: id}.FloorID(), req.Floor)
		if err != nil {
			return nil, err
		}
		s.floor.saved = watermark.Saved{Mark: r.Mark, Version: r.Seq, Time: r.Time}
	}
	s.config = func() (sharedmark.Config, error) { return e.shared(req.ChainID, key, db, s.floor) }
	return s, nil
}

// run does it.
func (s *sharing) run(ctx context.Context, req *hostlink.Share) (*hostlink.Shared, error) {
	out := &hostlink.Shared{}
	var err error
	switch req.Do {
	case hostlink.ShareCreate:
		err = s.create(ctx, req.State)
	case hostlink.ShareJoin:
		err = s.do(func(c sharedmark.Config) error { return sharedmark.Join(ctx, c) })
	case hostlink.ShareExport:
		out.State, err = s.export(ctx)
	case hostlink.ShareAdopt:
		err = s.adopt(ctx, req.AfterHeight)
	default:
		err = fmt.Errorf("nothing with a mark in a database is called %.20q", req.Do)
	}
	if err != nil {
		return nil, err
	}
	return s.answer(ctx, out)
}

// do uses the mark once.
func (s *sharing) do(f func(sharedmark.Config) error) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	defer c.Engine.Close()
	return f(c)
}

// create makes the mark, or raises the one that is there and joins this host to it.
func (s *sharing) create(ctx context.Context, state []byte) error {
	r, err := s.mac.Open(s.id, state)
	if err != nil {
		return err
	}
	first := watermark.Saved{Mark: r.Mark, Time: r.Time}
	err = s.do(func(c sharedmark.Config) error { return sharedmark.Create(ctx, c, first) })
	if !errors.Is(err, sharedmark.ErrExists) {
		return err
	}
	err = s.do(func(c sharedmark.Config) error { return sharedmark.Join(ctx, c) })
	if err != nil && !errors.Is(err, sharedmark.ErrExported) {
		return err
	}
	return s.raise(ctx, first)
}

// raise raises the mark, where it is below.
func (s *sharing) raise(ctx context.Context, to watermark.Saved) error {
	err := s.do(func(c sharedmark.Config) error { return sharedmark.Raise(ctx, c, to) })
	if errors.Is(err, sharedmark.ErrBelow) {
		return nil
	}
	return err
}

// export ends the mark, and makes a record of it for the host.
func (s *sharing) export(ctx context.Context) (state []byte, err error) {
	err = s.do(func(c sharedmark.Config) error {
		last, err := sharedmark.Export(ctx, c)
		if err != nil {
			return err
		}
		state, err = s.mac.Seal(s.id, hostlink.Record{Seq: uint64(time.Now().Unix()) << 20, Boot: s.e.boot, Time: time.Now(), Mark: last.Mark})
		return err
	})
	return state, err
}

func (s *sharing) adopt(ctx context.Context, after int64) error {
	if err := s.do(func(c sharedmark.Config) error { return sharedmark.Adopt(ctx, c) }); err != nil {
		return err
	}
	return s.raise(ctx, watermark.Saved{Mark: watermark.Floor(after)})
}

// answer seals the floor, and says where the mark is.
func (s *sharing) answer(ctx context.Context, out *hostlink.Shared) (*hostlink.Shared, error) {
	err := s.do(func(c sharedmark.Config) error {
		info, err := sharedmark.Peek(ctx, c, s.floor.saved.Mark)
		m := info.Saved.Mark
		out.Mark, out.Lineage = m.String(), info.Lineage
		out.At = hostlink.Looked{Height: m.Height, Round: m.Round, Step: uint8(m.Step)}
		return err
	})
	if err != nil {
		return nil, err
	}
	f := s.floor.saved
	out.Floor, err = s.mac.Seal(sharedmark.Config{ID: s.id}.FloorID(), hostlink.Record{Seq: f.Version, Boot: s.e.boot, Time: f.Time, Mark: f.Mark})
	return out, err
}
