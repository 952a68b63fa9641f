package signer_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// foreignStore acknowledges a mark of somebody else, once, and has written nothing.
type foreignStore struct {
	*storetest.Fake
	foreign watermark.Mark
	calls   []string
}

func (s *foreignStore) Load(ctx context.Context) (watermark.Saved, error) {
	s.calls = append(s.calls, "load")
	return s.Fake.Load(ctx)
}

func (s *foreignStore) Replace(ctx context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	s.calls = append(s.calls, "replace")
	if foreign := s.foreign; !foreign.IsZero() {
		s.foreign = watermark.Mark{}
		return watermark.Saved{Mark: foreign, Version: old.Version + 1}, nil
	}
	return s.Fake.Replace(ctx, old, m)
}

// An acknowledgement of another mark does not count: nothing is signed, and the state is
// loaded again before anything is decided.
func TestForeignAcknowledgement(t *testing.T) {
	for _, foreign := range []string{"11/0/prevote B t2", "11/0/prevote A t3", "11/1/prevote A t2", "12/0/prevote A t2"} {
		synctest.Test(t, func(t *testing.T) {
			key := newTestKey()
			store := &foreignStore{
				Fake:    storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"})),
				foreign: readMark(t, strings.Fields(foreign)),
			}
			key.durable = func() watermark.Mark { return store.Saved().Mark }
			c := config(key)
			c.Store = store
			s := newSigner(t, c)
			if resp := ask(t, s, say(t, "11/0/prevote A t2")); resp.Signature == nil {
				t.Errorf("%s: %+v", foreign, resp)
			}
			key.check(t)
			if diff := cmp.Diff([]string{"load", "replace", "load", "replace"}, store.calls); diff != "" {
				t.Errorf("%s (-want +got):\n%s", foreign, diff)
			}
		})
	}
}

// What another signer has raised is spent: a hostile node cannot double the bucket
// by asking two signers in turns.
func TestOthersSpendOfTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		c := config(newTestKey())
		c.Store = fake
		c.Heights = watermark.Heights{Burst: 100}
		s := newSigner(t, c)
		fake.Put(readMark(t, []string{"60/0/precommit", "A", "t1"}))
		if resp := ask(t, s, say(t, "11/0/prevote A t2")); !strings.Contains(resp.Refused, "height_regression") {
			t.Errorf("the other signer is at 60: %+v", resp)
		}
		if resp := ask(t, s, say(t, "61/0/prevote A t2")); resp.Refused != "" {
			t.Error(resp.Refused)
		}
		if resp := ask(t, s, say(t, "111/0/prevote A t2")); !strings.Contains(resp.Refused, "height_leap") {
			t.Errorf("100 heights were allowed, and are spent: %+v", resp)
		}
		if resp := ask(t, s, say(t, "110/0/prevote A t2")); resp.Refused != "" {
			t.Error(resp.Refused)
		}
	})
}

// The key is not asked for the extension of a vote that is refused, whatever
// refuses it.
func TestRefusedVoteHasNoExtension(t *testing.T) {
	for _, c := range []struct{ vote, reason string }{
		{"10/0/precommit B t1", "conflict"},
		{"9/0/precommit A t1", "height_regression"},
		{"51/0/precommit A t1", "height_max"},
		{"45/0/precommit A t1", "height_leap"},
		{"12/0/precommit A t1", "height_gap"},
	} {
		synctest.Test(t, func(t *testing.T) {
			key := newTestKey()
			conf := config(key)
			conf.Heights = watermark.Heights{Max: 50, Burst: 20}
			s := newSigner(t, conf)
			req := say(t, c.vote)
			req.Extension = []byte("price 7")
			resp := ask(t, s, req)
			synctest.Wait()
			if !strings.Contains(resp.Refused, c.reason) || key.asked != 0 {
				t.Errorf("%s: %d signatures were made, %+v, want %s", c.vote, key.asked, resp, c.reason)
			}
		})
	}
}

// The turn of a vote ends after the signature of its extension, also where the
// store fails meanwhile: the key is never asked twice at once.
func TestExtensionKeepsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"}))
		key := newTestKey()
		c := config(key)
		c.Store = fake
		s := newSigner(t, c)
		fake.Script(slices.Repeat([]storetest.Outcome{storetest.Before}, 100)...)
		key.setScript([]string{"hangs"})
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), answerTime)
			defer cancel()
			req := say(t, "11/0/precommit A t2")
			_, err := s.Handle(ctx, "n1", &req)
			done <- err
		}()
		time.Sleep(answerTime + time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("the turn ended while the key was busy: %v", err)
		default:
			key.letGo()
			if err := <-done; !errors.Is(err, storetest.ErrFake) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// A request that comes too late gives its turn back.
func TestTooLateKeepsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, config(newTestKey()))
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 { // which of two events is seen first is left to chance
			req := say(t, "11/0/prevote A t2")
			if _, err := s.Handle(over, "n1", &req); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		if resp := ask(t, s, say(t, "11/0/prevote A t2")); resp.Signature == nil {
			t.Errorf("got %+v", resp)
		}
	})
}
