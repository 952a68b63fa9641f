// Package sharedstate is a state that several hosts share, as the operator's side meets it,
// whichever database has it: a [provider.State] made of a shared mark
// ([privyseal/internal/sharedmark]) and of the floor that this host keeps of it in a file.
//
// A store's room below internal/ops has the database; what a host knows, which error it is,
// and what to do next are the same for all of them, and are here.
package sharedstate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// Shared is the state of one chain and key in a database.
type Shared struct {
	At provider.Place
	ID watermark.ID
	// Where names it for people. No secret is in it.
	Where string
	// Kind is the first name of the tables of its database. Without one, the state is in no other
	// database before or after.
	Kind string
	// Engine returns one that has no way to the value yet.
	Engine func() sharedmark.Engine
	// Survey says why this host should not begin to use the mark, or make it, such as that
	// another key has one for the chain there. nil: there is nothing to be seen.
	Survey func(ctx context.Context) error
	// Prepare is that of a [provider.Kept], which explains its errors.
	Prepare func(ctx context.Context) (pin string, err error)
}

// Kept returns the state as a store has it.
func (s Shared) Kept() provider.Kept {
	path := s.floorPath()
	kept := provider.Kept{State: s, Where: s.Where, Shared: true, Files: []string{path, path + filestore.CompanionSuffix}}
	if s.Prepare != nil {
		kept.Prepare = func(ctx context.Context) (string, error) {
			pin, err := s.Prepare(ctx)
			if errors.Is(err, sharedmark.ErrOther) { // nothing of this host is in it, or in the other one
				return "", &provider.StateError{Reason: provider.ErrRestored, Err: s.place().inWords(err), Cure: "if this is the one that is meant, correct its id"}
			}
			return pin, s.place().explain(err)
		}
	}
	return kept
}

func (s Shared) floors() floors { return floors{s.At.Path(s.At.Chain.State), s.ID, s.Kind} }

// floor says where the floor is.
func (s Shared) floor() filestore.Config { return s.floors().own() }

func (s Shared) floorPath() string { return s.floor().Path }

// ended returns the mark at which the state has ended in other databases, as far as this host has
// seen, and refuses it where it has not.
func (s Shared) ended() (watermark.Mark, error) {
	highest, alive := s.floors().ended()
	if alive != nil {
		return highest, s.place().elsewhere(alive)
	}
	return highest, nil
}

// place is what an error says of it.
func (s Shared) place() place {
	return place{s.At.Chain.Name, s.At.Path("."), s.floorPath(), s.Where}
}

// config returns what one use of the mark needs, without a floor.
func (s Shared) config() (sharedmark.Config, error) {
	if s.ID == (watermark.ID{}) {
		return sharedmark.Config{}, errors.New("where it is depends on the public key of the chain, which cannot be read")
	}
	return sharedmark.Config{ID: s.ID, Engine: s.Engine()}, nil
}

// Open implements [provider.State]. Signers of other hosts have it open at the same time; the
// floor is this one's alone.
func (s Shared) Open(ctx context.Context, wait bool) (watermark.Store, error) {
	ended, err := s.ended()
	if err != nil {
		return nil, err
	}
	floor := s.floor()
	floor.Wait = wait
	kept, err := filestore.Open(ctx, floor)
	if errors.Is(err, filestore.ErrMissing) { // the database says which step is missing
		info, err := s.Inspect(ctx)
		if err == nil && info.Problem == nil { // a join has come between
			return s.Open(ctx, wait)
		}
		if err == nil {
			err = info.Problem
		}
		return nil, err
	}
	if err != nil {
		return nil, s.place().explain(err)
	}
	c, err := s.config()
	if err != nil {
		kept.Close()
		return nil, s.place().explain(err)
	}
	host, err := kept.Host(ctx, s.ID)
	if err != nil {
		kept.Close()
		return nil, s.place().explain(err)
	}
	c.Floor, c.Seen = kept, host.Note
	return open{sharedmark.New(c), s, host, ended}, nil
}

// open is an open state. What a start can fail with is explained.
type open struct {
	*sharedmark.Store
	state Shared
	host  *filestore.Host
	ended watermark.Mark // in other databases
}

// Load implements [watermark.Store].
func (o open) Load(ctx context.Context) (watermark.Saved, error) {
	saved, err := o.Store.Load(ctx)
	if err != nil {
		return saved, o.state.place().explain(err)
	}
	if why := o.host.Refuses(saved.Mark); why != "" {
		return watermark.Saved{}, o.state.place().beside(why)
	}
	if err := o.state.place().below(saved.Mark, o.ended); err != nil {
		return watermark.Saved{}, err
	}
	return saved, nil
}

// Close implements [watermark.Store].
func (o open) Close() error { return errors.Join(o.Store.Close(), o.host.Close()) }

// lookPatience is for how long a database is asked by who only looks: more than most
// elections take, and less than an operator waits for.
const lookPatience = 2 * time.Second

// Inspect implements [provider.State].
func (s Shared) Inspect(ctx context.Context) (provider.Info, error) {
	info, err := s.inspect(ctx)
	ended, elsewhere := s.ended()
	switch {
	case elsewhere != nil && (err == nil || errors.Is(err, provider.ErrMissing)):
		info.Problem = elsewhere
		return info, nil
	case err == nil && !info.Exported && !info.Ended && info.Newest.Mark.Less(ended):
		info.Newest.Mark, info.Problem = ended, cmp.Or(info.Problem, s.place().below(info.Saved.Mark, ended))
	}
	return info, err
}

// inspect looks at the mark, its floor, and what this host has signed since it was booted.
func (s Shared) inspect(ctx context.Context) (provider.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	floor, err := filestore.Inspect(s.floor())
	missing := errors.Is(err, filestore.ErrMissing)
	if err != nil && !missing {
		return provider.Info{}, s.place().explain(err)
	}
	info, err := s.peek(ctx, floor.Saved.Mark)
	if err != nil {
		info.Ended = info.Ended || floor.Ended
		return info, err
	}
	if missing && (errors.Is(info.Problem, provider.ErrUnjoined) || errors.Is(info.Problem, provider.ErrExported)) {
		info, err = s.recall(ctx, info)
		return s.look(info), err
	}
	if !missing && floor.Problem != nil {
		info.Problem = s.place().explain(floor.Problem)
		info.Ended = info.Ended || floor.Ended
	}
	return s.look(info), nil
}

// look looks at what this host has signed with other states of the chain and key: a join, or an
// adoption, raises the mark up to that.
func (s Shared) look(info provider.Info) provider.Info {
	if info.Exported || info.Ended {
		return info
	}
	why, other := filestore.Beside(s.floor(), s.ID, info.Saved.Mark)
	if info.Problem == nil && why != "" {
		info.Problem = s.place().beside(why)
	}
	if info.Newest.Mark.Less(other) {
		info.Newest.Mark = other
	}
	return info
}

// recall looks, for a host whose floor is gone, by what it remembers of it since it was
// booted. Where that is not newer than what is there, it is as unjoined as it seemed.
func (s Shared) recall(ctx context.Context, unjoined provider.Info) (provider.Info, error) {
	seen := filestore.Remembered(s.floor())
	if len(seen.SignBytes) == 0 {
		return unjoined, nil
	}
	info, err := s.peek(ctx, seen)
	remembers := func(why *provider.StateError, next string) error {
		return &provider.StateError{Reason: why.Reason, Err: fmt.Errorf("%w; the floor of this host is gone, and this is what it remembers since it was booted", why.Err), Cure: next}
	}
	if why, ok := errors.AsType[*provider.StateError](err); ok && why.Reason == provider.ErrPlace {
		return unjoined, remembers(why, "if the prefix in the config was changed, correct it; if the state was moved there: reboot this host, so that it forgets")
	}
	if why, ok := errors.AsType[*provider.StateError](info.Problem); ok && why.Reason == provider.ErrRestored {
		info.Problem = remembers(why, why.Cure+"; only after a reset of a test chain, which begins again under the same id, reboot this host first, so that it forgets")
		return info, nil
	}
	unjoined.Shared.Known = info.Shared.Known
	return unjoined, err
}

// peek looks at what is in the database, as a host sees it whose floor is known.
func (s Shared) peek(ctx context.Context, known watermark.Mark) (provider.Info, error) {
	c, err := s.config()
	if err != nil {
		return provider.Info{}, s.place().explain(err)
	}
	defer c.Engine.Close()
	in, err := sharedmark.Peek(ctx, c, known)
	if errors.Is(err, sharedmark.ErrMissing) {
		err = cmp.Or(s.survey(ctx), err)
	}
	return provider.Info{
		ID: in.ID, Saved: in.Saved, Exported: in.Exported, Newest: in.Newest, Ended: in.Ended, Instance: in.Lineage, Problem: s.place().explain(in.Problem),
		Shared: &provider.SharedInfo{Writer: in.Writer, Own: in.Floor, Index: in.Position.Index, Term: in.Position.Term, Members: len(in.Position.Members), Known: in.Known},
	}, s.place().explain(err)
}

func (s Shared) survey(ctx context.Context) error {
	if s.Survey == nil {
		return nil
	}
	return s.Survey(ctx)
}

// Create implements [provider.State]. Nothing is made on this host before the database was
// seen to have no state.
func (s Shared) Create(ctx context.Context, first watermark.Saved) error {
	ended, err := s.ended()
	if err != nil {
		return err
	}
	if first.Mark.Less(ended) {
		return s.place().tooLow(first.Mark, ended)
	}
	info, err := s.Inspect(ctx)
	if err == nil && info.Shared.Own == "" {
		return s.place().explain(&sharedmark.Error{Op: "create", Err: sharedmark.ErrExists})
	}
	if err != nil && !errors.Is(err, provider.ErrMissing) {
		return err
	}
	if err := s.makeFloor(); err != nil {
		return err
	}
	return s.change(ctx, func(c sharedmark.Config, host *filestore.Host) error {
		if err := host.NotBelow(first.Mark); err != nil {
			return err
		}
		return sharedmark.Create(ctx, c, first)
	})
}

// makeFloor makes an empty floor where there is none. Where this host has had one since it was
// booted, it remembers how far that was raised, and the new one begins above it.
func (s Shared) makeFloor() error {
	err := filestore.Create(s.floor(), watermark.Saved{})
	if errors.Is(err, filestore.ErrBelow) {
		next := watermark.Mark{Height: filestore.Remembered(s.floor()).Height + 1}
		err = filestore.Create(s.floor(), watermark.Saved{Mark: next})
	}
	if errors.Is(err, filestore.ErrExists) {
		return nil
	}
	return s.place().explain(err)
}

// change has f work on the mark, while the floor is ours, and no other state of this host signs.
// Where that is done, the host knows this state as the one that it signs with.
func (s Shared) change(ctx context.Context, f func(sharedmark.Config, *filestore.Host) error) error {
	floor, err := filestore.Open(ctx, s.floor())
	if errors.Is(err, filestore.ErrMissing) {
		err = &sharedmark.Error{Op: "change", Err: sharedmark.ErrUnjoined}
	}
	if err != nil {
		return s.place().explain(err)
	}
	defer floor.Close()
	c, err := s.config()
	if err != nil {
		return s.place().explain(err)
	}
	defer c.Engine.Close()
	host, err := floor.Host(ctx, s.ID)
	if err != nil {
		return s.place().explain(err)
	}
	defer host.Close()
	taken := func() {}
	c.Floor, c.Signed, c.Seen = floor, s.signed(host), func(saved watermark.Saved, exported bool) {
		taken = func() { host.Take(saved, exported) }
	}
	if err := f(c, host); err != nil {
		return s.place().explain(err)
	}
	taken()
	return nil
}

// signed returns the highest mark that this host knows of the chain and key, beside this state.
func (s Shared) signed(host *filestore.Host) watermark.Mark {
	known := host.Highest()
	if ended, err := s.ended(); err == nil && known.Less(ended) {
		return ended
	}
	return known
}

// Raise implements [provider.State]. What another host has exported is brought back to life
// also here, where nobody has joined it.
func (s Shared) Raise(ctx context.Context, to watermark.Saved) error {
	ended, err := s.ended()
	if err != nil {
		return err
	}
	if to.Mark.Less(ended) {
		return s.place().tooLow(to.Mark, ended)
	}
	if info, err := s.Inspect(ctx); err == nil && info.Shared.Own == "" && errors.Is(info.Problem, provider.ErrExported) && !to.Mark.Less(info.Saved.Mark) {
		if err := s.makeFloor(); err != nil {
			return err
		}
	}
	return s.change(ctx, func(c sharedmark.Config, host *filestore.Host) error {
		if err := host.NotBelow(to.Mark); err != nil {
			return err
		}
		return sharedmark.Raise(ctx, c, to)
	})
}

// Export implements [provider.Mover].
func (s Shared) Export(ctx context.Context) (saved watermark.Saved, err error) {
	info, err := s.Inspect(ctx)
	if err == nil && errors.Is(info.Problem, provider.ErrBeside) {
		return saved, info.Problem
	}
	err = s.change(ctx, func(c sharedmark.Config, _ *filestore.Host) (err error) {
		if info.Exported { // another state of this host may have gone on from there
			c.Seen = nil
		}
		saved, err = sharedmark.Export(ctx, c)
		return err
	})
	return saved, err
}

// Adopt implements [provider.Mover]: first the file of the floor, where that was copied or
// restored, then the mark. Where the file is gone, it is what the host remembers of it.
func (s Shared) Adopt(ctx context.Context) error {
	if _, err := s.ended(); err != nil {
		return err
	}
	floor, err := filestore.Inspect(s.floor())
	if seen := filestore.Remembered(s.floor()); errors.Is(err, filestore.ErrMissing) && len(seen.SignBytes) > 0 {
		err = filestore.Create(s.floor(), watermark.Saved{Mark: seen})
	} else if err == nil && (errors.Is(floor.Problem, filestore.ErrCopied) || errors.Is(floor.Problem, filestore.ErrRestored)) {
		err = filestore.Adopt(s.floor())
	}
	if err != nil && !errors.Is(err, filestore.ErrMissing) {
		return s.place().explain(err)
	}
	return s.change(ctx, func(c sharedmark.Config, _ *filestore.Host) error { return sharedmark.Adopt(ctx, c) })
}

// Join implements [provider.Joiner].
func (s Shared) Join(ctx context.Context) error {
	if info, err := s.Inspect(ctx); err != nil {
		return err
	} else if !errors.Is(info.Problem, provider.ErrUnjoined) {
		return info.Problem
	}
	if err := s.survey(ctx); err != nil {
		return s.place().explain(err)
	}
	if err := s.makeFloor(); err != nil {
		return err
	}
	return s.change(ctx, func(c sharedmark.Config, _ *filestore.Host) error { return sharedmark.Join(ctx, c) })
}
