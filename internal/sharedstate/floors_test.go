package sharedstate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

// in returns a host as it is with its state in a database of a kind.
func (h *host) in(kind string, db *enginetest.Database) *host {
	other := *h
	other.kind, other.db = kind, db
	return &other
}

// table returns a database without members.
func table() *enginetest.Database {
	d := enginetest.NewDatabase()
	d.Restore(d.Snapshot(), func(p *sharedmark.Position) { *p = sharedmark.Position{Medium: [16]byte{'t'}} })
	return d
}

// ends exports the state of a host, which is where it goes on elsewhere.
func (h *host) ends() watermark.Saved {
	h.t.Helper()
	saved, err := h.state().Export(h.t.Context())
	h.must(err)
	return saved
}

// brings has a state go on that has ended elsewhere.
func (h *host) brings(saved watermark.Saved) {
	h.t.Helper()
	if info, err := h.state().Inspect(h.t.Context()); err != nil || info.Problem == nil {
		h.must(h.state().Create(h.t.Context(), saved))
	} else {
		h.must(h.state().Raise(h.t.Context(), saved))
	}
	h.must(h.loads())
}

// A state goes from one database to another and back, as often as that may be, booted or not, and
// nothing has to be put aside. Where it has ended it is dead.
func TestFloorOfEachDatabase(t *testing.T) {
	for _, boots := range []bool{false, true} {
		a := newHost(t, nil, false)
		cluster, marks := a.in("etcd", enginetest.NewDatabase()), a.in("dynamodb", table())
		cluster.must(cluster.state().Create(t.Context(), votedAt(1)))
		for height := int64(2); height < 20; {
			for i, from := range []*host{cluster, marks} {
				to := []*host{marks, cluster}[i]
				from.raises(height)
				saved := from.ends()
				if boots {
					a.boots()
					from.run, to.run = a.run, a.run
				}
				to.brings(saved)
				to.raises(height + 1)
				height += 2
				from.refused(provider.ErrSplit, from.loads())
			}
		}
		for _, name := range []string{"state.floor", "state.dynamodb.floor"} {
			if _, err := os.Stat(filepath.Join(a.home, name)); err != nil {
				t.Error(err)
			}
		}
	}
}

// What was seen of a database binds when the state comes back to it, whatever was signed elsewhere
// meanwhile.
func TestOldFloorBinds(t *testing.T) {
	for _, kinds := range [][2]string{{"etcd", "dynamodb"}, {"dynamodb", "etcd"}} {
		a := newHost(t, nil, false)
		here, there := a.in(kinds[0], enginetest.NewDatabase()), a.in(kinds[1], enginetest.NewDatabase())
		here.must(here.state().Create(t.Context(), votedAt(1)))
		backup := here.db.Snapshot()
		here.raises(5)
		there.brings(here.ends())
		there.raises(7)
		saved := there.ends()
		here.db.Restore(backup, nil)
		here.refused(provider.ErrRestored, here.loads())
		here.refused(provider.ErrRestored, here.state().Raise(t.Context(), saved))
		here.refused(provider.ErrRestored, here.state().Join(t.Context()))
		if info, err := here.state().Inspect(t.Context()); err != nil || !info.Ended { // as it was when it went
			t.Errorf("%+v, %v", info, err)
		}
	}
}

// As long as this host does not know that the state has ended in one database, it goes on in no
// other: not with the floor there, nor without it until the host has forgotten.
func TestNotEndedElsewhere(t *testing.T) {
	a, b := newHost(t, nil, false), newHost(t, nil, false)
	db, marks := enginetest.NewDatabase(), table()
	inEtcd, inTable := a.in("etcd", db), a.in("dynamodb", marks)
	inEtcd.must(inEtcd.state().Create(t.Context(), votedAt(5)))
	refused := func(cure string) {
		t.Helper()
		s := inTable.state()
		looked, err := s.Inspect(t.Context())
		inTable.must(err)
		_, opened := s.Open(t.Context(), false)
		for _, err := range []error{looked.Problem, opened, s.Create(t.Context(), votedAt(9)), s.Join(t.Context()), s.Raise(t.Context(), votedAt(9)), s.Adopt(t.Context())} {
			inTable.refused(provider.ErrSplit, err)
			if !strings.Contains(err.Error(), inEtcd.shared().floorPath()) || !strings.Contains(err.Error(), cure) {
				t.Errorf("%v", err)
			}
		}
	}
	refused("have this host see that") // in an empty table
	other := b.in("dynamodb", marks)
	other.must(other.state().Create(t.Context(), votedAt(4)))
	refused("have this host see that") // in one that another host has

	inEtcd.losesFloor()
	refused("reboot this host, so that it forgets")
	a.boots()
	inTable.run = a.run
	inTable.must(inTable.state().Join(t.Context()))
	inTable.must(inTable.loads())
}

// Another host has ended it: this one goes on elsewhere once it has seen that.
func TestEndedByAnotherHost(t *testing.T) {
	db, marks := enginetest.NewDatabase(), table()
	a, b := newHost(t, db, false).in("etcd", db), newHost(t, db, false).in("etcd", db)
	a.must(a.state().Create(t.Context(), votedAt(5)))
	b.must(b.state().Join(t.Context()))
	saved := a.ends()
	a.in("dynamodb", marks).brings(saved)
	b.refused(provider.ErrSplit, b.in("dynamodb", marks).state().Join(t.Context()))
	b.refused(provider.ErrExported, b.loads())
	b.must(b.in("dynamodb", marks).state().Join(t.Context()))
	b.must(b.in("dynamodb", marks).loads())
}

// In a database of another kind nothing goes on below the mark at which the state has ended, also
// after this host was booted.
func TestBelowWhatHasEndedElsewhere(t *testing.T) {
	a, b := newHost(t, nil, false), newHost(t, nil, false)
	db, marks := enginetest.NewDatabase(), table()
	inEtcd, inTable, other := a.in("etcd", db), a.in("dynamodb", marks), b.in("dynamodb", marks)
	inEtcd.must(inEtcd.state().Create(t.Context(), votedAt(6)))
	inEtcd.ends()
	a.boots()
	inTable.run = a.run
	inTable.refused(provider.ErrBelow, inTable.state().Create(t.Context(), votedAt(5)))

	other.must(other.state().Create(t.Context(), votedAt(3)))
	if info, err := inTable.problem(); info.Newest.Mark.Height != 6 {
		t.Errorf("a join comes to %v, %v", info.Newest.Mark, err)
	}
	inTable.must(inTable.state().Join(t.Context()))
	if info, err := inTable.problem(); err != nil || info.Saved.Mark.Height != 6 {
		t.Errorf("it has joined at %v, %v", info.Saved.Mark, err)
	}

	// It has ended there, and another host has brought it back below.
	inTable.ends()
	inEtcd.must(inEtcd.state().Raise(t.Context(), votedAt(9)))
	inEtcd.ends()
	a.boots()
	inTable.run = a.run
	inTable.refused(provider.ErrBelow, inTable.state().Raise(t.Context(), votedAt(8)))
	other.must(other.state().Raise(t.Context(), votedAt(8)))
	inTable.refused(provider.ErrBeside, inTable.loads())
	inTable.must(inTable.state().Adopt(t.Context()))
	if info, err := inTable.problem(); err != nil || info.Saved.Mark.Height != 9 {
		t.Errorf("it was adopted at %v, %v", info.Saved.Mark, err)
	}
	inTable.must(inTable.loads())
}

// The floor of a table that was made before kinds had their own binds where it is, and so does
// what the host remembers of it.
func TestFloorBeforeKinds(t *testing.T) {
	marks := table()
	before := newHost(t, marks, false)
	before.must(before.state().Create(t.Context(), votedAt(1)))
	backup := marks.Snapshot()
	before.raises(5)
	now := before.in("dynamodb", marks)
	now.must(now.loads())
	now.raises(6)
	if path := now.shared().floorPath(); path != filepath.Join(now.home, "state.floor") {
		t.Error(path)
	}
	marks.Restore(backup, nil)
	now.refused(provider.ErrRestored, now.loads())
	now.losesFloor()
	now.refused(provider.ErrRestored, now.state().Join(t.Context()))

	// That of a cluster is never taken for one.
	db := enginetest.NewDatabase()
	a := newHost(t, db, false)
	a.must(a.state().Create(t.Context(), votedAt(5)))
	a.refused(provider.ErrSplit, a.in("dynamodb", marks).state().Join(t.Context()))
}

// Of a floor that cannot be read, nothing says that its state has ended.
func TestUnreadableFloorElsewhere(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"damaged": func(path string) error { return os.WriteFile(path, make([]byte, 4096), 0o600) },
		"copied": func(path string) error {
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.Remove(path)
			}
			if err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			return err
		},
	} {
		a := newHost(t, nil, false)
		inEtcd, inTable := a.in("etcd", enginetest.NewDatabase()), a.in("dynamodb", table())
		inEtcd.must(inEtcd.state().Create(t.Context(), votedAt(5)))
		inEtcd.ends()
		inEtcd.must(spoil(inEtcd.shared().floorPath()))
		t.Log(what)
		inTable.refused(provider.ErrSplit, inTable.state().Create(t.Context(), votedAt(5)))
	}
	// A host that has never joined there has nothing that binds.
	a := newHost(t, nil, false)
	inEtcd, inTable := a.in("etcd", enginetest.NewDatabase()), a.in("dynamodb", table())
	inEtcd.must(filestore.Create(inEtcd.shared().floor(), watermark.Saved{}))
	inTable.must(inTable.state().Create(t.Context(), votedAt(5)))
}
