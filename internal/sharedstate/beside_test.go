package sharedstate

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/filestore/filestoretest"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

// file is a home with its state in a file, on the host of another one.
type file struct {
	*host
	c filestore.Config
}

func (h *host) file() *file {
	f := &file{h, filestore.Config{Path: filepath.Join(filestoretest.Folder(h.t), "state"), ID: id}}
	return f
}

// config is that of the file on its host, which may have been booted.
func (f *file) config() filestore.Config {
	f.t.Setenv("PRIVYSEAL_RUN", f.run)
	f.c.Host = filestore.HostFolders()
	return f.c
}

func (f *file) load() error {
	s, err := filestore.Open(f.t.Context(), f.config())
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Load(f.t.Context())
	return err
}

func (f *file) raises(height int64) {
	f.t.Helper()
	s, err := filestore.Open(f.t.Context(), f.config())
	f.must(err)
	defer s.Close()
	f.must(raise(f.t.Context(), s, height))
}

func (f *file) exports() watermark.Saved {
	f.t.Helper()
	saved, err := filestore.Export(f.config())
	f.must(err)
	return saved
}

// loads says why no signer starts with the shared state of a host; who only looks says the same.
func (h *host) loads() error {
	h.t.Helper()
	_, looked := h.problem()
	s, err := h.state().Open(h.t.Context(), false)
	if err == nil {
		defer s.Close()
		_, err = s.Load(h.t.Context())
	}
	if (looked == nil) != (err == nil) || err != nil && strings.ReplaceAll(err.Error(), "cannot load", "cannot use") != looked.Error() {
		h.t.Fatalf("a start says %v, and who looks %v", err, looked)
	}
	return err
}

// names wants an error to name a path, that of the other home.
func (h *host) names(path string, err error) {
	h.t.Helper()
	if !strings.Contains(err.Error(), path) {
		h.t.Errorf("%v does not name %s", err, path)
	}
}

func votedAt(height int64) watermark.Saved {
	return watermark.Saved{Mark: watermark.Mark{Height: height, Step: watermark.StepPrevote, SignBytes: []byte("vote")}}
}

// Of two homes of one host, one with its state in a file and one that shares it, the host lets
// one sign: who is not the newest is refused, and told which home is.
func TestBesideAFile(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := newHost(t, db, false), newHost(t, db, false)
	f := a.file()
	a.must(filestore.Create(f.config(), watermark.Saved{}))
	f.raises(3)
	err := a.state().Create(t.Context(), votedAt(2))
	a.refused(provider.ErrBelow, err)
	a.names(f.c.Path, err)
	a.must(a.state().Create(t.Context(), votedAt(3)))
	b.must(b.state().Join(t.Context()))
	a.raises(5)
	err = f.load()
	f.refused(filestore.ErrRestored, err)
	f.names(a.shared().floorPath(), err)

	// The file goes on, as the operator says, up from what was shared.
	f.must(filestore.Adopt(f.config()))
	f.raises(9)
	err = a.loads()
	a.refused(provider.ErrBeside, err)
	a.names(f.c.Path, err)
	_, err = a.shared().Export(t.Context())
	a.refused(provider.ErrBeside, err)
	a.refused(provider.ErrBeside, a.state().Join(t.Context()))
	a.refused(provider.ErrBelow, a.state().Raise(t.Context(), votedAt(8)))

	// Other hosts sign above it, and then so may this one.
	b.raises(10)
	a.must(a.loads())
	f.refused(filestore.ErrRestored, f.load())
	f.must(filestore.Adopt(f.config()))
	f.raises(20)
	a.refused(provider.ErrBeside, a.loads())
	if info, _ := a.problem(); info.Newest.Mark.Height != 20 || info.Saved.Mark.Height != 10 {
		t.Errorf("it would be adopted at %v, and is at %v", info.Newest.Mark, info.Saved.Mark)
	}
	a.must(a.state().Adopt(t.Context()))
	if info, err := a.problem(); err != nil || !info.Saved.Mark.Equal(votedAt(20).Mark) {
		t.Errorf("adopted at %v: %v", info.Saved.Mark, err)
	}
	// At the same mark, too: others who share it may have signed above that.
	f.refused(filestore.ErrRestored, f.load())
	a.raises(21)

	// A boot makes the host forget, and who signs first is known again.
	f.c.Host = nil
	a.boots()
	a.must(a.loads())
	f.refused(filestore.ErrRestored, f.load())
	a.boots()
	f.must(f.load())
	a.must(a.loads()) // which is above it
	f.refused(filestore.ErrRestored, f.load())
}

// A file that is above the shared state is refused as well: signers of other hosts are at it.
func TestBesideAHigherFile(t *testing.T) {
	a := newHost(t, enginetest.NewDatabase(), false)
	f := a.file()
	a.must(filestore.Create(f.config(), watermark.Saved{}))
	f.raises(30)
	a.boots()
	a.must(a.state().Create(t.Context(), votedAt(4)))
	err := f.load()
	f.refused(filestore.ErrRestored, err)
	f.names("shared the state of this key with other hosts, with "+a.shared().floorPath(), err)
	f.must(filestore.Adopt(f.config()))
	f.must(f.load())
	a.refused(provider.ErrBeside, a.loads())
}

// Two signers never run at once, in whatever order they start, and commands do not come between.
func TestBesideOneThatRuns(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		a := newHost(t, enginetest.NewDatabase(), elsewhere)
		f := a.file()
		a.must(filestore.Create(f.config(), watermark.Saved{}))
		a.must(a.state().Create(t.Context(), watermark.Saved{}))
		s, err := a.state().Open(t.Context(), false)
		a.must(err)
		err = f.load()
		f.refused(filestore.ErrTwin, err)
		if !elsewhere {
			f.names(a.shared().floorPath(), err)
		}
		a.must(s.Close())
		if !elsewhere {
			f.must(filestore.Adopt(f.config()))
		}
		s, err = filestore.Open(t.Context(), f.config())
		a.must(err)
		_, err = s.Load(t.Context())
		a.must(err)
		_, err = a.state().Open(t.Context(), false)
		a.refused(provider.ErrTwin, err)
		a.names(f.c.Path, err)
		if !elsewhere {
			a.refused(provider.ErrTwin, a.state().Raise(t.Context(), votedAt(1)))
		}
		a.must(s.Close())
		s, err = a.state().Open(t.Context(), false)
		a.must(err)
		a.must(s.Close())
	}
}

// What this host has exported out of a file may have gone on elsewhere, unless it was brought in
// here.
func TestBesideAnExport(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := newHost(t, db, false), newHost(t, db, false)
	a.must(a.state().Create(t.Context(), votedAt(5)))
	b.must(b.state().Join(t.Context()))
	a.boots()
	f := a.file()
	a.must(filestore.Create(f.config(), votedAt(5)))
	f.exports()
	a.refused(provider.ErrBeside, a.loads())
	a.must(a.state().Adopt(t.Context()))
	a.must(a.loads())

	// A host that joins brings in what it has exported.
	f = b.file()
	b.losesFloor()
	b.boots()
	b.must(filestore.Create(f.config(), votedAt(9)))
	f.exports()
	_, err := b.problem()
	b.refused(provider.ErrUnjoined, err)
	if info, _ := b.problem(); info.Newest.Mark.Height != 9 {
		t.Errorf("it would be joined at %v", info.Newest.Mark)
	}
	b.must(b.state().Join(t.Context()))
	b.must(b.loads())
	if info, _ := b.problem(); !info.Saved.Mark.Equal(votedAt(9).Mark) {
		t.Errorf("it was joined at %v", info.Saved.Mark)
	}
}

// A state that moves from a file to a database and back, as often as that may be, signs on.
func TestMovesThereAndBack(t *testing.T) {
	for _, boots := range []bool{false, true} {
		db := enginetest.NewDatabase()
		a := newHost(t, db, false)
		f := a.file()
		a.must(filestore.Create(f.config(), watermark.Saved{}))
		for height := int64(1); height < 12; height += 4 {
			f.raises(height)
			saved := f.exports()
			if boots {
				a.boots()
			}
			if height == 1 {
				a.must(a.state().Create(t.Context(), saved))
			} else {
				a.must(a.state().Raise(t.Context(), saved))
			}
			a.must(a.loads())
			a.raises(height + 1)
			f.refused(filestore.ErrExported, f.load())
			if boots {
				a.boots()
			}
			saved, err := a.shared().Export(t.Context())
			a.must(err)
			a.must(filestore.Raise(f.config(), saved))
			f.must(f.load())
			// Who looks again at what has ended, or exports it again, changes nothing for the file.
			a.refused(provider.ErrExported, a.loads())
			_, err = a.shared().Export(t.Context())
			a.must(err)
			f.must(f.load())
		}
	}
}

// Two homes of one host that share in two databases, or twice in one.
func TestBesideAnotherDatabase(t *testing.T) {
	one, other := enginetest.NewDatabase(), enginetest.NewDatabase()
	a, b := newHost(t, one, false), newHost(t, other, false)
	b.run = a.run
	a.must(a.state().Create(t.Context(), votedAt(5)))
	b.refused(provider.ErrBelow, b.state().Create(t.Context(), votedAt(4)))
	b.must(b.state().Create(t.Context(), votedAt(6)))
	err := a.loads()
	if !errors.Is(err, provider.ErrBeside) && !errors.Is(err, provider.ErrRestored) {
		t.Fatalf("%v", err)
	}
	a.names(b.shared().floorPath(), err)
	a.must(a.state().Adopt(t.Context()))
	a.must(a.loads())
	err = b.loads()
	if !errors.Is(err, provider.ErrBeside) && !errors.Is(err, provider.ErrRestored) {
		t.Fatalf("%v", err)
	}
}
