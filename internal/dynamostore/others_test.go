package dynamostore_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"privyseal/internal/dynamostore"
	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
)

func TestDynalite(t *testing.T) { onOther(t, dynamotest.Dynalite(t)) }

func TestMoto(t *testing.T) { onOther(t, dynamotest.Moto(t)) }

// onOther holds the engine against a DynamoDB of others: what we take for its answers, they
// do too.
func onOther(t *testing.T, o *dynamotest.Other) {
	tables := 0
	fresh := func(t *testing.T) dynamostore.Config {
		tables++
		c := at(o.URL, nil)
		c.Table = fmt.Sprint("marks-", tables)
		c.TableID = o.Create(c.Table)
		return c
	}
	t.Run("suite", func(t *testing.T) {
		enginetest.Suite(t, id, func(t *testing.T) func() sharedmark.Engine {
			c := fresh(t)
			return func() sharedmark.Engine { return engine(t, c) }
		})
	})
	t.Run("answers are lost", func(t *testing.T) { answersAreLost(t, o, fresh(t)) })
	t.Run("refusals", func(t *testing.T) { refusals(t, o, fresh(t)) })
	t.Run("looks", func(t *testing.T) { looks(t, fresh(t)) })
	t.Run("another table", func(t *testing.T) { anotherTable(t, o, fresh(t)) })
}

// A write whose answer is lost was executed, and the signer finds out.
func answersAreLost(t *testing.T, o *dynamotest.Other, c dynamostore.Config) {
	var lose atomic.Int32
	c.Endpoint = o.Front(func(op string, _ *http.Response) bool { return op != "PutItem" || lose.Add(-1) < 0 })
	s := newHost(t, c).Must(enginetest.Create).Signer()
	for height := int64(1); height <= 3; height++ {
		lose.Store(int32(height - 1)) // one after the other, in one call of the signer
		if err := enginetest.Raise(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if lose.Load() >= 0 {
			t.Fatal("no answer was lost")
		}
		if saved, err := s.Load(t.Context()); err != nil || saved.Mark.Height != height {
			t.Fatal(saved, err)
		}
	}
	lose.Store(1)
	e := engine(t, c)
	now, err := e.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, won, err := e.Swap(t.Context(), now, []byte("new")); won || err == nil || errors.Is(err, sharedmark.ErrNotSent) {
		t.Fatal(won, err)
	}
	if now, err = e.Read(t.Context()); err != nil || string(now.Value) != "new" {
		t.Fatal(now, err)
	}
}

// What others refuse is what we think it is.
func refusals(t *testing.T, o *dynamotest.Other, c dynamostore.Config) {
	c.Table, c.TableID = "no-such-table", ""
	e := engine(t, c)
	if _, _, err := e.Ready(t.Context()); !errors.Is(err, dynamostore.ErrNoTable) || !errors.Is(err, sharedmark.ErrRefused) {
		t.Error(err)
	}
	if _, won, err := e.Swap(t.Context(), sharedmark.At{}, []byte("new")); won || !errors.Is(err, dynamostore.ErrNoTable) || !errors.Is(err, sharedmark.ErrNotSent) {
		t.Error(won, err)
	}
}

// A table that was made again under the same name, empty or out of a backup, ends every
// signer, whether it has looked since or not, and nothing is written.
func anotherTable(t *testing.T, o *dynamotest.Other, c dynamostore.Config) {
	pinned := c.TableID
	now := time.Now()
	c.Now = func() time.Time { return now }
	h := newHost(t, c)
	h.Must(enginetest.Create)
	backup, err := engine(t, c).Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.c.TableID = ""
	s := h.Signer()
	if err := enginetest.Raise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	o.Delete(c.Table)
	c.TableID = o.Create(c.Table)
	if c.TableID == pinned {
		t.Skip("its TableId does not change within a second")
	}
	e := engine(t, c)
	ends := func(s *sharedmark.Store, want sharedmark.At) {
		t.Helper()
		if err := enginetest.Raise(t.Context(), s); !errors.Is(err, sharedmark.ErrRestored) {
			t.Error(err)
		}
		s.Close()
		if got, err := e.Read(t.Context()); err != nil || string(got.Value) != string(want.Value) || got.Revision != want.Revision {
			t.Error("something was written: ", got, err)
		}
	}
	ends(s, sharedmark.At{}) // it has not looked
	ends(h.Signer(), sharedmark.At{})
	if _, won, err := e.Swap(t.Context(), sharedmark.At{}, backup.Value); err != nil || !won {
		t.Fatal(won, err)
	}
	ends(h.Signer(), backup)
	h.c.TableID = pinned
	if err := h.Do(sharedmark.Adopt); !errors.Is(err, sharedmark.ErrRefused) || !strings.Contains(err.Error(), c.TableID) {
		t.Error(err)
	}
	h.c.TableID = c.TableID
	if err := enginetest.Raise(t.Context(), h.Must(sharedmark.Adopt).Signer()); err != nil {
		t.Error(err)
	}
}
