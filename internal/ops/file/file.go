// Package file is the store of states in files of the home folder, as the operator's side
// meets it. What a file keeps, and how, is internal/filestore.
package file

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/watermark"
)

// Store is a line of the table of a build.
func Store() provider.Store {
	return provider.Store{
		Name:  "file",
		Keeps: func(ch config.Chain) bool { return ch.State != "" },
		State: func(path func(string) string, ch config.Chain, id watermark.ID) provider.State {
			return state{filestore.Config{Path: path(ch.State), ID: id, Host: filestore.HostFolders()}}
		},
	}
}

// state is a state in a file, on this host.
type state struct{ at filestore.Config }

// Open implements [provider.State].
func (s state) Open(ctx context.Context, wait bool) (watermark.Store, error) {
	s.at.Wait = wait
	store, err := filestore.Open(ctx, s.at)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// Inspect implements [provider.State].
func (s state) Inspect() (provider.Info, error) { return filestore.Inspect(s.at) }

// Create implements [provider.State].
func (s state) Create(first watermark.Saved) error { return filestore.Create(s.at, first) }

// Raise implements [provider.State].
func (s state) Raise(to watermark.Saved) error { return filestore.Raise(s.at, to) }

// Export implements [provider.Mover].
func (s state) Export() (watermark.Saved, error) { return filestore.Export(s.at) }

// Adopt implements [provider.Mover].
func (s state) Adopt() error { return filestore.Adopt(s.at) }
