package sharedmark_test

import (
	"errors"
	"testing"

	"privyseal/internal/filestore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
)

// Where the mark has gone, a host says what it knows of it, which is what its adoption puts
// there.
func TestPeekWhereItHasGone(t *testing.T) {
	db := enginetest.NewDatabase()
	engine := func() sharedmark.Engine { return &enginetest.Memory{DB: db} }
	h := enginetest.NewHost(t, id, engine).Must(enginetest.Create)
	s := h.Signer()
	if err := enginetest.Raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	peek := func() (sharedmark.Info, error) {
		floor, err := filestore.Inspect(h.Floor)
		if err != nil {
			t.Fatal(err)
		}
		return sharedmark.Peek(t.Context(), sharedmark.Config{ID: id, Engine: engine()}, floor.Saved.Mark)
	}
	db.Put(nil)
	info, err := peek()
	if !errors.Is(err, sharedmark.ErrRestored) || info.Newest.Mark.Height != 1 || info.Ended || info.Saved.Mark.Height != 0 {
		t.Error(info, err)
	}
	h.Must(sharedmark.Adopt)
	if info, err := peek(); err != nil || info.Problem != nil || info.Saved.Mark.Height != 1 {
		t.Error(info, err)
	}
}
