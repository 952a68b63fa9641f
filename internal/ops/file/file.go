// Package file is the store of states in files of the home folder, as the operator's side
// meets it. What a file keeps, and how, is internal/filestore.
package file

import (
	"context"
	"errors"
	"strings"

	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/shell"
	"privyseal/internal/watermark"
)

// Store is a line of the table of a build.
func Store() provider.Store {
	return provider.Store{
		Name: "file",
		State: func(at provider.Place, id watermark.ID) provider.Kept {
			path := at.Path(at.Chain.State)
			return provider.Kept{
				State: state{at, filestore.Config{Path: path, ID: id, Host: filestore.HostFolders()}},
				Where: path,
				Files: []string{path, path + filestore.CompanionSuffix},
			}
		},
	}
}

// state is a state in a file, on this host.
type state struct {
	place provider.Place
	at    filestore.Config
}

// Open implements [provider.State].
func (s state) Open(ctx context.Context, wait bool) (watermark.Store, error) {
	s.at.Wait = wait
	open, err := filestore.Open(ctx, s.at)
	if err != nil {
		return nil, s.explain(err)
	}
	return store{open, s}, nil
}

// store is an open state. Only what a start can fail with is explained.
type store struct {
	*filestore.Store
	state state
}

// Load implements [watermark.Store].
func (s store) Load(ctx context.Context) (watermark.Saved, error) {
	saved, err := s.Store.Load(ctx)
	return saved, s.state.explain(err)
}

// Inspect implements [provider.State].
func (s state) Inspect(context.Context) (provider.Info, error) {
	i, err := filestore.Inspect(s.at)
	return provider.Info{
		ID: i.ID, Saved: i.Saved, Exported: i.Exported, Newest: i.Newest, Ended: i.Ended, Problem: s.explain(i.Problem), Instance: i.Instance,
		Mode: i.Mode, Filesystem: i.Filesystem, Bound: i.Bound, Torn: i.Torn,
	}, s.explain(err)
}

// Create implements [provider.State].
func (s state) Create(_ context.Context, first watermark.Saved) error {
	return s.explain(filestore.Create(s.at, first))
}

// Raise implements [provider.State].
func (s state) Raise(_ context.Context, to watermark.Saved) error {
	return s.explain(filestore.Raise(s.at, to))
}

// Export implements [provider.Mover].
func (s state) Export(context.Context) (watermark.Saved, error) {
	saved, err := filestore.Export(s.at)
	return saved, s.explain(err)
}

// Adopt implements [provider.Mover].
func (s state) Adopt(context.Context) error { return s.explain(filestore.Adopt(s.at)) }

// reasons are what the operator's side branches on, and what a file has for it.
var reasons = []struct{ file, state error }{
	{filestore.ErrLocked, provider.ErrLocked},
	{filestore.ErrTwin, provider.ErrTwin},
	{filestore.ErrMissing, provider.ErrMissing},
	{filestore.ErrExists, provider.ErrExists},
	{filestore.ErrUnsafe, provider.ErrUnsafe},
	{filestore.ErrDamaged, provider.ErrDamaged},
	{filestore.ErrForeign, provider.ErrForeign},
	{filestore.ErrCopied, provider.ErrCopied},
	{filestore.ErrRestored, provider.ErrRestored},
	{filestore.ErrExported, provider.ErrExported},
	{filestore.ErrBelow, provider.ErrBelow},
}

// explain gives an error of a file its reason, and the next step for the chain by its name
// and in its home: filestore knows the chain's id only.
func (s state) explain(err error) error {
	e, ok := errors.AsType[*filestore.Error](err)
	if !ok {
		return err
	}
	own := *e
	own.Cure = ""
	explained := &provider.StateError{Err: &own, Cure: e.Cure}
	if e.Cure == filestore.Cure(s.place.ID, e.Err) || errors.Is(e, filestore.ErrMissing) || errors.Is(e, filestore.ErrDamaged) {
		chain := " --chain-id " + shell.Word(s.place.Name)
		explained.Cure = strings.ReplaceAll(filestore.Cure(s.place.Name, e.Err), chain, " --home "+shell.Word(s.place.Path("."))+chain)
	}
	for _, r := range reasons {
		if errors.Is(e, r.file) {
			explained.Reason = r.state
		}
	}
	if explained.Reason == nil {
		explained.Reason = e.Err
	}
	return explained
}
