package provider

import (
	"context"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/watermark"
)

// State is the state of one chain and its key, in whatever store, as the operator's side
// meets it. Its errors are those below.
type State interface {
	// Open takes the state for this process alone. wait waits for another one that has it,
	// until ctx ends.
	Open(ctx context.Context, wait bool) (watermark.Store, error)
	// Inspect looks at it and changes nothing, also while a signer has it.
	Inspect() (Info, error)
	// Create makes it where there is none.
	Create(first watermark.Saved) error
	// Raise brings it to a mark, and never lowers it.
	Raise(to watermark.Saved) error
}

// Mover is a [State] that can leave this host and come to another one.
type Mover interface {
	// Export ends it here, durably, and returns what it held. Again it returns the same.
	Export() (watermark.Saved, error)
	// Adopt accepts one whose bytes were put here by something else.
	Adopt() error
}

// Info is what a store says about a state. What a store does not have is zero.
type Info = filestore.Info

// Why a state is refused, whatever its store.
var (
	ErrLocked   = filestore.ErrLocked   // another process has it,
	ErrTwin     = filestore.ErrTwin     // or has another state of its chain and key
	ErrMissing  = filestore.ErrMissing  // there is none
	ErrExported = filestore.ErrExported // it was handed to another host
	ErrCopied   = filestore.ErrCopied   // its bytes were put here by something else,
	ErrRestored = filestore.ErrRestored // or brought back
)

// Store is one store of this build.
type Store struct {
	Name string
	// Keeps reports whether the state of a chain is in it.
	Keeps func(ch config.Chain) bool
	// State returns the state of a chain; path is where a path of its config lies.
	State func(path func(string) string, ch config.Chain, id watermark.ID) State
}

// Stores is all stores of a build.
type Stores []Store

// State returns the state of a chain. The config was checked, so that a store has it.
func (s Stores) State(path func(string) string, ch config.Chain, id watermark.ID) State {
	for _, store := range s[1:] {
		if store.Keeps(ch) {
			return store.State(path, ch, id)
		}
	}
	return s[0].State(path, ch, id)
}
