package sharedstate

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"privyseal/internal/config"
	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

var id = watermark.ID{ChainID: "chain-1", Key: [32]byte{1, 2, 3}}

// state is what provider.State and its Mover and Joiner are to an operator.
type state interface {
	provider.State
	provider.Mover
	provider.Joiner
}

// host is one with a home of its own, and a memory of what was since it was booted.
type host struct {
	t         *testing.T
	db        *enginetest.Database
	home, run string
	kind      string
	elsewhere bool
	now       int64 // by the clock elsewhere
}

func newHost(t *testing.T, db *enginetest.Database, elsewhere bool) *host {
	t.Helper()
	h := &host{t: t, db: db, home: filestoretest.Folder(t), elsewhere: elsewhere, now: 1000}
	h.boots()
	return h
}

// boots forgets what is in memory.
func (h *host) boots() { h.run = h.t.TempDir() }

// shared returns the state of this host, until that of another host is asked for.
func (h *host) shared() Shared {
	h.t.Setenv("PRIVYSEAL_RUN", h.run)
	at := provider.Place{Chain: config.Chain{Name: "chain-1", State: "state"}, Path: func(path string) string { return filepath.Join(h.home, path) }}
	return Shared{At: at, ID: id, Where: "memory", Kind: h.kind, Engine: func() sharedmark.Engine { return &enginetest.Memory{DB: h.db} }}
}

func (h *host) state() state {
	s := h.shared()
	if h.elsewhere {
		return Elsewhere{s, enclave{s, h.now}}
	}
	return s
}

func (h *host) losesFloor() {
	h.t.Helper()
	for _, f := range []string{".floor", ".floor" + filestore.CompanionSuffix} {
		if err := os.Remove(filepath.Join(h.home, "state"+f)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// raises has a signer of this host raise the mark to a height.
func (h *host) raises(height int64) {
	h.t.Helper()
	if e, ok := h.state().(Elsewhere); ok {
		_, err := e.change(h.t.Context(), strconv.FormatInt(height, 10), nil)
		h.must(err)
		return
	}
	s, err := h.state().Open(h.t.Context(), false)
	h.must(err)
	defer s.Close()
	h.must(raise(h.t.Context(), s, height))
}

func raise(ctx context.Context, s watermark.Store, height int64) error {
	saved, err := s.Load(ctx)
	if err == nil {
		_, err = s.Replace(ctx, saved, watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte("vote")})
	}
	return err
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) refused(reason, err error) {
	h.t.Helper()
	if !errors.Is(err, reason) {
		h.t.Fatalf("%v, want %v", err, reason)
	}
	h.t.Log(err)
}

// problem is why the state is not used on this host.
func (h *host) problem() (provider.Info, error) {
	h.t.Helper()
	var info provider.Info
	var err error
	if asker, ok := h.state().(provider.Asker); ok {
		info, err = asker.Ask(h.t.Context())
	} else {
		info, err = h.state().Inspect(h.t.Context())
	}
	h.must(err)
	return info, info.Problem
}

// enclave stands for a signer elsewhere, whose seal is none. Its new floors count from now.
type enclave struct {
	s   Shared
	now int64
}

// carried is a floor that comes with a request.
type carried struct{ saved watermark.Saved }

func (c *carried) Load(context.Context) (watermark.Saved, error) { return c.saved, nil }

func (c *carried) Replace(_ context.Context, _ watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	c.saved.Mark, c.saved.Version = m, c.saved.Version+1
	return c.saved, nil
}

func (c *carried) Close() error { return nil }

// sealed is a floor as this host keeps it: in the place of the sign bytes is a whole mark.
func sealed(m watermark.Mark) watermark.Mark {
	m.SignBytes = fmt.Appendf(nil, "%d %s", m.Height, m.SignBytes)
	return m
}

func unsealed(b []byte) watermark.Mark {
	count, floor, _ := bytes.Cut(b, []byte(" "))
	n, _ := strconv.ParseInt(string(count), 10, 64)
	return watermark.Mark{Height: n, Step: watermark.StepPrecommit, SignBytes: floor}
}

func (e enclave) Share(ctx context.Context, do string, _, floor []byte) (done Done, err error) {
	c, err := e.s.config()
	if err != nil {
		return done, err
	}
	kept := &carried{watermark.Saved{Mark: watermark.Mark{Height: e.now}}}
	if floor != nil {
		kept.saved.Mark = unsealed(floor)
	}
	c.Floor = kept
	switch do {
	case ToCreate:
		if err = sharedmark.Create(ctx, c, watermark.Saved{}); errors.Is(err, sharedmark.ErrExists) {
			c.Engine = e.s.Engine()
			err = sharedmark.Join(ctx, c)
		}
	case ToJoin:
		err = sharedmark.Join(ctx, c)
	case ToAdopt:
		err = sharedmark.Adopt(ctx, c)
	case ToExport:
		done.State, err = sharedmark.Export(ctx, c)
	default:
		height, _ := strconv.ParseInt(do, 10, 64)
		err = raise(ctx, sharedmark.New(c), height)
	}
	if err != nil {
		return Done{}, err
	}
	c.Engine = e.s.Engine()
	info, err := sharedmark.Peek(ctx, c, kept.saved.Mark)
	done.Floor, done.Now = sealed(kept.saved.Mark), info.Saved.Mark
	done.Now.SignBytes = nil
	return done, err
}

func (e enclave) Known(floor watermark.Mark) (watermark.Mark, bool, error) {
	return sharedmark.Known(unsealed(floor.SignBytes))
}

// A host whose floor is gone remembers until it is booted again what it has seen: it joins
// nothing older than that.
func TestJoinsNothingOlder(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		db := enginetest.NewDatabase()
		a, b := newHost(t, db, elsewhere), newHost(t, db, elsewhere)
		a.must(a.state().Create(t.Context(), watermark.Saved{}))
		b.must(b.state().Join(t.Context()))
		backup := db.Snapshot()
		b.raises(42)
		b.losesFloor()
		db.Restore(backup, nil)
		info, err := b.problem()
		b.refused(provider.ErrRestored, err)
		if !elsewhere && info.Shared.Known.Height != 42 {
			t.Errorf("it has seen %v", info.Shared.Known)
		}
		b.refused(provider.ErrRestored, b.state().Join(t.Context()))
		if _, err = b.state().Open(t.Context(), false); !elsewhere {
			b.refused(provider.ErrRestored, err)
		}
		b.must(b.state().Adopt(t.Context()))
		if info, err := b.problem(); err != nil || info.Saved.Mark.Height != 42 {
			t.Errorf("after it was adopted: %v, %v", info.Saved.Mark, err)
		}

		// A boot later it has the operator's word alone.
		b.losesFloor()
		b.boots()
		db.Restore(backup, nil)
		b.must(b.state().Join(t.Context()))
	}
}

// A host whose floor is gone joins again, as another signer. The count of floors that it
// remembers may be anything: an enclave counts by a clock, which may have gone back, and
// then the host keeps what it was.
func TestJoinsAgain(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		db := enginetest.NewDatabase()
		h := newHost(t, db, elsewhere)
		h.must(h.state().Create(t.Context(), watermark.Saved{}))
		for height, now := range []int64{0, 2000, 1000} {
			before := h.writer()
			h.now = now
			h.raises(int64(height + 1))
			h.losesFloor()
			_, err := h.problem()
			h.refused(provider.ErrUnjoined, err)
			h.must(h.state().Join(t.Context()))
			if kept := elsewhere && now < 2000; (h.writer() == before) != kept {
				t.Errorf("elsewhere %v, at %d: the floor is that of signer %s, and was of %s", elsewhere, now, h.writer(), before)
			}
		}
	}
}

// writer is the identity of this host, out of its floor.
func (h *host) writer() string {
	h.t.Helper()
	info, err := filestore.Inspect(h.shared().floor())
	h.must(err)
	floor := info.Saved.Mark
	if h.elsewhere {
		floor = unsealed(floor.SignBytes)
	}
	return hex.EncodeToString(floor.SignBytes[2:10])
}

// What one host has exported lives again on another one that has never joined, at or above it.
func TestEndedElsewhere(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := newHost(t, db, false), newHost(t, db, false)
	a.must(a.state().Create(t.Context(), watermark.Saved{}))
	a.raises(5)
	_, err := a.shared().Export(t.Context())
	a.must(err)
	_, err = b.problem()
	b.refused(provider.ErrExported, err)
	b.refused(provider.ErrExported, b.state().Join(t.Context()))
	b.refused(provider.ErrExists, b.state().Create(t.Context(), watermark.Saved{}))
	b.refused(provider.ErrUnjoined, b.state().Raise(t.Context(), watermark.Saved{Mark: watermark.Mark{Height: 4}}))
	b.must(b.state().Raise(t.Context(), watermark.Saved{Mark: watermark.Mark{Height: 6}}))
	if info, err := b.problem(); err != nil || info.Saved.Mark.Height != 6 {
		t.Errorf("it is at %v: %v", info.Saved.Mark, err)
	}
}

// Of a database that was restored, a host that has been off may see nothing but that other members
// have it. So who adopts never keeps the lineage, also where only members have changed: a host that
// has seen more, and whose floor the database has left behind by then, learns of the restore from
// that alone.
func TestAdoptedWhereOnlyMembersChanged(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := newHost(t, db, false), newHost(t, db, false)
	a.must(a.state().Create(t.Context(), votedAt(1)))
	b.must(b.state().Join(t.Context()))
	backup := db.Snapshot()
	b.raises(7)
	// One member after the other is replaced, while b is there and a is off.
	for i, members := range [][]uint64{{1, 2, 4}, {1, 4, 5}, {4, 5, 6}} {
		db.Restore(db.Snapshot(), func(p *sharedmark.Position) { p.Index, p.Members = uint64(100+i), members })
		b.raises(int64(8 + i))
	}
	db.Restore(backup, func(p *sharedmark.Position) { p.Index, p.Members = 99, []uint64{4, 5, 6} })
	_, err := a.problem()
	a.refused(provider.ErrRestored, err)
	if !strings.Contains(err.Error(), "most members of the database") {
		t.Errorf("it is not for its members alone: %v", err)
	}
	a.must(a.state().Adopt(t.Context()))
	for height := int64(2); height < 20; height++ {
		a.raises(height)
	}
	err = b.loads()
	b.refused(provider.ErrRestored, err)
	if !strings.Contains(err.Error(), "its lineage is") {
		t.Errorf("it is not for its lineage: %v", err)
	}
}
