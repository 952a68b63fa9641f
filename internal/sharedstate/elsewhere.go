package sharedstate

import (
	"context"
	"errors"
	"strings"

	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// Elsewhere is a shared state whose mark another process alone can read and write, such as an
// enclave. This host has it asked, and keeps its floor, which is sealed.
type Elsewhere struct {
	Shared // has no Engine
	Signer Signer
}

// Signer is who reads and writes the mark.
type Signer interface {
	// Share does one of the things below with the mark. state is the sealed state at which
	// ToCreate begins, and floor what this host keeps, nil before it has joined. An error has
	// the words of [sharedmark]'s reasons in it.
	Share(ctx context.Context, do string, state, floor []byte) (Done, error)
	// Known reads a floor.
	Known(floor watermark.Mark) (known watermark.Mark, exported bool, err error)
}

// What a Signer does with a mark.
const (
	ToCreate = "create" // or raise it, where there is one
	ToJoin   = "join"   // or look whether this host may go on
	ToExport = "export"
	ToAdopt  = "adopt"
)

// Done is what a Signer has done.
type Done struct {
	Floor watermark.Mark  // that this host keeps from here on
	State watermark.Saved // of ToExport
	Now   watermark.Mark  // where the mark is, without sign bytes
}

// Kept returns the state as a store has it.
func (e Elsewhere) Kept() provider.Kept {
	kept := e.Shared.Kept()
	kept.State = e
	return kept
}

// Open implements [provider.State]: what is open is the floor, for the signer to raise.
func (e Elsewhere) Open(ctx context.Context, wait bool) (watermark.Store, error) {
	floor := e.floor()
	floor.Wait = wait
	kept, err := filestore.Open(ctx, floor)
	if err != nil {
		return nil, e.explain("open", err)
	}
	host, err := kept.Host(ctx, e.ID)
	if err != nil {
		kept.Close()
		return nil, e.explain("open", err)
	}
	return alone{kept, host, e}, nil
}

// alone is a floor whose signer is the only one of this host for the chain and key. Of its mark
// the host knows too little to remember it for others.
type alone struct {
	*filestore.Store
	host  *filestore.Host
	state Elsewhere
}

// Explain is that of [provider.Explained].
func (a alone) Explain(err error) error {
	if !strings.Contains(err.Error(), " the shared mark: ") { // as a [sharedmark.Error] has it
		return err
	}
	if explained := a.state.explain("use", err); provider.StateRefused(explained) {
		return explained
	}
	return err
}

// Close implements [watermark.Store].
func (a alone) Close() error { return errors.Join(a.Store.Close(), a.host.Close()) }

// explain gives an error its reason, also where the signer has said it in words alone.
func (e Elsewhere) explain(op string, err error) error {
	if errors.Is(err, filestore.ErrMissing) {
		return e.place().explain(&sharedmark.Error{Op: op, Err: sharedmark.ErrUnjoined})
	}
	if err == nil || provider.StateRefused(err) {
		return err
	}
	explained := e.place().explain(err)
	if provider.StateRefused(explained) {
		return explained
	}
	for _, r := range reasons {
		if strings.Contains(err.Error(), r.of.Error()) {
			return &provider.StateError{Reason: r.state, Err: e.place().inWords(err), Cure: e.place().next(r.of)}
		}
	}
	return explained
}

// Inspect implements [provider.State], by the floor alone.
func (e Elsewhere) Inspect(context.Context) (provider.Info, error) {
	floor, err := filestore.Inspect(e.floor())
	if errors.Is(err, filestore.ErrMissing) {
		return provider.Info{ID: e.ID, Shared: &provider.SharedInfo{}, Problem: e.explain("look at", err)}, nil
	}
	if err != nil {
		return provider.Info{}, e.explain("look at", err)
	}
	info, err := e.info(floor.Saved)
	if floor.Problem != nil && err == nil {
		info.Problem, info.Ended = e.explain("look at", floor.Problem), floor.Ended
	}
	return info, err
}

// info is what a floor says.
func (e Elsewhere) info(floor watermark.Saved) (info provider.Info, err error) {
	known, exported, err := e.Signer.Known(floor.Mark)
	if err != nil {
		return info, e.explain("look at", err)
	}
	saved := watermark.Saved{Mark: known, Version: floor.Version, Time: floor.Time}
	info = provider.Info{ID: e.ID, Saved: saved, Newest: saved, Exported: exported, Shared: &provider.SharedInfo{Known: known}}
	if exported {
		info.Problem = e.place().explain(&sharedmark.Error{Op: "look at", Err: sharedmark.ErrExported})
	}
	return info, nil
}

// Ask implements [provider.Asker].
func (e Elsewhere) Ask(ctx context.Context) (provider.Info, error) {
	info, err := e.Inspect(ctx)
	unjoined := errors.Is(info.Problem, provider.ErrUnjoined)
	if err != nil || info.Problem != nil && !unjoined {
		return info, err
	}
	floor, err := filestore.Inspect(e.floor())
	if err != nil && !unjoined {
		return info, e.explain("look at", err)
	}
	seen := floor.Saved.Mark
	if len(seen.SignBytes) == 0 {
		seen = filestore.Remembered(e.floor())
	}
	done, err := e.Signer.Share(ctx, ToJoin, nil, seen.SignBytes)
	if err = e.explain("look at", err); provider.StateRefused(err) {
		info.Problem = err
		return info, nil
	}
	if err != nil {
		return info, err
	}
	now, err := e.info(watermark.Saved{Mark: done.Floor})
	if now.Saved.Mark.Less(done.Now) { // others have raised it, above what this host has seen
		now.Saved.Mark, now.Newest.Mark = done.Now, done.Now
	}
	if unjoined {
		now.Problem = info.Problem
	}
	return now, err
}

// Create implements [provider.State].
func (e Elsewhere) Create(ctx context.Context, first watermark.Saved) error {
	_, err := e.change(ctx, ToCreate, first.Mark.SignBytes)
	return err
}

// Raise implements [provider.State].
func (e Elsewhere) Raise(ctx context.Context, to watermark.Saved) error { return e.Create(ctx, to) }

// Join implements [provider.Joiner].
func (e Elsewhere) Join(ctx context.Context) error {
	_, err := e.change(ctx, ToJoin, nil)
	return err
}

// Export implements [provider.Mover].
func (e Elsewhere) Export(ctx context.Context) (watermark.Saved, error) {
	done, err := e.change(ctx, ToExport, nil)
	return done.State, err
}

// Adopt implements [provider.Mover].
func (e Elsewhere) Adopt(ctx context.Context) error {
	floor, err := filestore.Inspect(e.floor())
	if err == nil && (errors.Is(floor.Problem, filestore.ErrCopied) || errors.Is(floor.Problem, filestore.ErrRestored)) {
		err = filestore.Adopt(e.floor())
	}
	if err == nil || errors.Is(err, filestore.ErrMissing) {
		_, err = e.change(ctx, ToAdopt, nil)
	}
	return e.explain("adopt", err)
}

// change has the signer do something, while the floor is ours, and keeps the new floor. Cut
// off before that, the floor is an old one, which is as good.
func (e Elsewhere) change(ctx context.Context, do string, state []byte) (done Done, err error) {
	var old watermark.Saved
	floor, err := filestore.Open(ctx, e.floor())
	missing := errors.Is(err, filestore.ErrMissing)
	switch {
	case missing && (do == ToJoin || do == ToAdopt): // what the host remembers counts
		old.Mark, err = filestore.Remembered(e.floor()), nil
	case missing:
		err = nil
	case err == nil:
		defer floor.Close()
		old, err = floor.Load(ctx)
	}
	if err == nil {
		done, err = e.Signer.Share(ctx, do, state, old.Mark.SignBytes)
	}
	if err == nil && missing {
		err = e.begin(ctx, do, &done)
	} else if err == nil && old.Mark.Less(done.Floor) {
		_, err = floor.Replace(ctx, old, done.Floor)
	}
	return done, e.explain(do, err)
}

// begin makes the file of a floor. A host that joins comes with a new identity, whatever it
// remembers, unless the clock by which that floor counts has gone back.
func (e Elsewhere) begin(ctx context.Context, do string, done *Done) error {
	if do == ToJoin && len(filestore.Remembered(e.floor()).SignBytes) > 0 {
		again, err := e.Signer.Share(ctx, do, nil, nil)
		if err != nil {
			return err
		}
		err = filestore.Create(e.floor(), watermark.Saved{Mark: again.Floor})
		if !errors.Is(err, filestore.ErrBelow) {
			*done = again
			return err
		}
	}
	return filestore.Create(e.floor(), watermark.Saved{Mark: done.Floor})
}
