package enginetest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// Host is one of those that share a mark, by engines of its own. Its floor is a file.
type Host struct {
	Floor filestore.Config

	t    *testing.T
	id   watermark.ID
	open func() sharedmark.Engine
}

// NewHost returns a host that has not joined. open returns an engine for one use.
func NewHost(t *testing.T, id watermark.ID, open func() sharedmark.Engine) *Host {
	t.Helper()
	h := &Host{t: t, id: id, open: open}
	h.Floor = filestore.Config{Path: filepath.Join(filestoretest.Folder(t), "state.floor"), ID: sharedmark.Config{ID: id}.FloorID()}
	if err := filestore.Create(h.Floor, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return h
}

// config is for one use: of a signer, or of an operator's command.
func (h *Host) config() sharedmark.Config {
	h.t.Helper()
	floor, err := filestore.Open(h.t.Context(), h.Floor)
	if err != nil {
		h.t.Fatal(err)
	}
	return sharedmark.Config{ID: h.id, Engine: h.open(), Floor: floor}
}

// Do runs an operator's command.
func (h *Host) Do(command func(context.Context, sharedmark.Config) error) error {
	h.t.Helper()
	c := h.config()
	defer c.Floor.Close()
	defer c.Engine.Close()
	return command(h.t.Context(), c)
}

// Must runs one that succeeds.
func (h *Host) Must(command func(context.Context, sharedmark.Config) error) *Host {
	h.t.Helper()
	if err := h.Do(command); err != nil {
		h.t.Fatal(err)
	}
	return h
}

// Signer returns the store of a signer on this host.
func (h *Host) Signer() *sharedmark.Store { return sharedmark.New(h.config()) }

// Create makes a mark of a key that has signed nothing.
func Create(ctx context.Context, c sharedmark.Config) error {
	return sharedmark.Create(ctx, c, watermark.Saved{})
}

// Raise replaces the mark by a prevote at the next height.
func Raise(ctx context.Context, s *sharedmark.Store) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	saved, err := s.Load(ctx)
	if err == nil {
		_, err = s.Replace(ctx, saved, watermark.Mark{Height: saved.Mark.Height + 1, Step: watermark.StepPrevote, SignBytes: []byte("vote")})
	}
	return err
}

// Suite is what every engine passes. database returns, for a value that is new, how a host
// opens an engine on it.
func Suite(t *testing.T, id watermark.ID, database func(t *testing.T) (open func() sharedmark.Engine)) {
	storetest.Run(t, func(t *testing.T) watermark.Store {
		return NewHost(t, id, database(t)).Must(Create).Signer()
	})
	storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
		open := database(t)
		first := NewHost(t, id, open).Must(Create)
		second := NewHost(t, id, open).Must(sharedmark.Join)
		return first.Signer(), second.Signer()
	})
}
