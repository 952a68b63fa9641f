package sharedmark_test

import (
	"cmp"
	"context"
	"path/filepath"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

var id = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}

// host is one of those that share a mark: the database that it reaches, the engine of its
// last config, and where its floor is.
type host struct {
	t      *testing.T
	db     *enginetest.Database
	engine *enginetest.Memory
	floor  func() watermark.Store // opens it
	mac    *[32]byte
	chain  string // other than that of id
	key    byte   // added to that of id
}

// inMemory returns a host whose floor is a fake, which holds nothing yet.
func inMemory(t *testing.T, db *enginetest.Database) *host {
	fake := storetest.NewFake(watermark.Mark{})
	return &host{t: t, db: db, floor: func() watermark.Store { return fake.Another() }}
}

// onDisk returns a host whose floor is a file.
func onDisk(t *testing.T, db *enginetest.Database, folder string) *host {
	t.Helper()
	c := filestore.Config{Path: filepath.Join(folder, "state.floor"), ID: sharedmark.Config{ID: id}.FloorID()}
	if err := filestore.Create(c, watermark.Saved{}); err != nil {
		t.Fatal(err)
	}
	return &host{t: t, db: db, floor: func() watermark.Store {
		open, err := filestore.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return open
	}}
}

// config is for one use: of a signer, or of an operator's command.
func (h *host) config() sharedmark.Config {
	h.engine = &enginetest.Memory{DB: h.db}
	of := id
	of.ChainID = cmp.Or(h.chain, of.ChainID)
	of.Key[0] += h.key
	return sharedmark.Config{ID: of, Engine: h.engine, Floor: h.floor(), MAC: h.mac}
}

// do runs an operator's command.
func (h *host) do(command func(context.Context, sharedmark.Config) error) error {
	c := h.config()
	defer c.Floor.Close()
	return command(h.t.Context(), c)
}

func create(first watermark.Mark) func(context.Context, sharedmark.Config) error {
	return func(ctx context.Context, c sharedmark.Config) error {
		return sharedmark.Create(ctx, c, watermark.Saved{Mark: first})
	}
}

func (h *host) must(command func(context.Context, sharedmark.Config) error) *host {
	h.t.Helper()
	if err := h.do(command); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) signer() *sharedmark.Store { return sharedmark.New(h.config()) }

func TestSuite(t *testing.T) {
	for name, on := range map[string]func(*testing.T, *enginetest.Database) *host{
		"floor in memory": inMemory,
		"floor in a file": func(t *testing.T, db *enginetest.Database) *host {
			return onDisk(t, db, filestoretest.Folder(t))
		},
		"authenticated": func(t *testing.T, db *enginetest.Database) *host {
			h := inMemory(t, db)
			h.mac = &[32]byte{7}
			return h
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) watermark.Store {
				return on(t, enginetest.NewDatabase()).must(create(watermark.Mark{})).signer()
			})
			storetest.RunShared(t, func(t *testing.T) (a, b watermark.Store) {
				db := enginetest.NewDatabase()
				first, second := on(t, db), on(t, db)
				return first.must(create(watermark.Mark{})).signer(), second.must(sharedmark.Join).signer()
			})
		})
	}
}
