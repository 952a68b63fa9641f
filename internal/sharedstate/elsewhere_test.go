package sharedstate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"privyseal/internal/cure"
	"privyseal/internal/provider"
	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
)

// What others have raised is seen by who asks, and not by who looks at this host alone.
func TestElsewhereShowsNow(t *testing.T) {
	db := enginetest.NewDatabase()
	a, b := newHost(t, db, true), newHost(t, db, true)
	a.must(a.state().Create(t.Context(), watermark.Saved{}))
	b.must(b.state().Join(t.Context()))
	b.raises(9)
	known, err := a.state().Inspect(t.Context())
	if a.must(err); known.Problem != nil || known.Saved.Mark.Height != 0 {
		t.Errorf("this host has seen %+v", known)
	}
	if now, err := a.problem(); err != nil || now.Saved.Mark.Height != 9 || now.Newest.Mark.Height != 9 || now.Shared.Known.Height != 0 {
		t.Errorf("now: %+v, %v", now, err)
	}
}

var errCut = errors.New("cut off")

// cutting is a signer that does what it is asked, and is cut off before it can say so, at the
// call that counts down to 0.
type cutting struct {
	Signer
	calls *int
}

func (c cutting) Share(ctx context.Context, do string, state, floor []byte) (Done, error) {
	done, err := c.Signer.Share(ctx, do, state, floor)
	if *c.calls--; *c.calls == 0 {
		return Done{}, errors.Join(err, errCut)
	}
	return done, err
}

// What was cut off after it was done elsewhere, and before this host has kept its floor, is
// done again with the same result, and the host signs on.
func TestElsewhereCutOff(t *testing.T) {
	ctx := t.Context()
	for name, do := range map[string]func(s state) error{
		"create": func(s state) error { return s.Create(ctx, watermark.Saved{}) },
		"join":   func(s state) error { return s.Join(ctx) },
		"again":  func(s state) error { return s.Join(ctx) },
		"raise":  func(s state) error { return s.Raise(ctx, watermark.Saved{}) },
		"adopt":  func(s state) error { return s.Adopt(ctx) },
		"export": func(s state) error {
			saved, err := s.Export(ctx)
			if err == nil && saved.Mark.Height != 5 {
				t.Errorf("exported at %v", saved.Mark)
			}
			return err
		},
	} {
		for cut := 1; ; cut++ {
			db := enginetest.NewDatabase()
			other, h := newHost(t, db, true), newHost(t, db, true)
			if name != "create" {
				other.must(other.state().Create(ctx, watermark.Saved{}))
				other.raises(5)
			}
			if name != "create" && name != "join" {
				h.must(h.state().Join(ctx))
			}
			if name == "again" {
				h.losesFloor()
			}
			calls := cut
			e := h.state().(Elsewhere)
			e.Signer = cutting{e.Signer, &calls}
			if err := do(e); calls > 0 {
				h.must(err)
				if cut == 1 {
					t.Errorf("%s asks nobody", name)
				}
				break
			} else if err == nil {
				t.Fatalf("%s, cut off at call %d, is done", name, cut)
			}
			h.must(do(h.state()))
			info, err := h.problem()
			if name == "export" {
				h.refused(provider.ErrExported, err)
				continue
			}
			if h.must(err); name != "create" && info.Saved.Mark.Height != 5 {
				t.Errorf("%s: it is at %v", name, info.Saved.Mark)
			}
			h.raises(6)
			if info, err := h.state().Inspect(ctx); err != nil || info.Saved.Mark.Height != 6 {
				t.Errorf("%s: this host has seen %v, %v", name, info.Saved.Mark, err)
			}
		}
	}
}

// saying is a signer that says only this.
type saying struct {
	Signer
	text string
}

func (s saying) Share(context.Context, string, []byte, []byte) (Done, error) {
	return Done{}, errors.New(s.text)
}

// first is the first reason in these words: a mark and a floor may have the same.
func first(of error) error {
	for _, r := range reasons {
		if r.of.Error() == of.Error() {
			return r.of
		}
	}
	return of
}

// What a signer elsewhere says in words has its reason and its next step here, and what has no
// reason is a database that is away.
func TestElsewhereInWords(t *testing.T) {
	h := newHost(t, enginetest.NewDatabase(), true)
	h.must(h.state().Create(t.Context(), watermark.Saved{}))
	asks := func(text string) (*provider.StateError, error) {
		t.Helper()
		e := h.state().(Elsewhere)
		e.Signer = saying{e.Signer, text}
		err := e.Join(t.Context())
		s, ok := errors.AsType[*provider.StateError](err)
		if !ok {
			t.Fatalf("%q is %v", text, err)
		}
		if info, _ := e.Ask(t.Context()); provider.StateRefused(s) != (info.Problem != nil) {
			t.Errorf("%q is no problem for who looks: %v", text, info.Problem)
		}
		return s, err
	}
	for _, r := range reasons {
		s, err := asks("the enclave refuses: cannot join the shared mark: " + r.of.Error() + " (record 7); restart it")
		if s.Reason != r.state || !strings.Contains(err.Error(), "record 7") {
			t.Errorf("%q is %v, not %v", r.of, s.Reason, r.state)
		}
		if want := h.shared().place().next(first(r.of)); s.Cure != want {
			t.Errorf("%q: the next step is %q, not %q", r.of, s.Cure, want)
		}
	}
	if s, _ := asks("the enclave refuses: connection refused"); s.Reason != provider.ErrAway {
		t.Errorf("that nobody answers is %v", s.Reason)
	}
}

// A signer elsewhere tells in words why the mark is refused; the host adds what to do, and nothing to
// what may pass, or has another cause.
func TestElsewhereRefusesWhileItRuns(t *testing.T) {
	a := newHost(t, enginetest.NewDatabase(), true)
	a.must(a.state().Create(t.Context(), watermark.Saved{}))
	open, err := a.state().Open(t.Context(), false)
	a.must(err)
	defer open.Close()
	for text, want := range map[string]string{
		"cannot load the shared mark: " + sharedmark.ErrRestored.Error() + " (it is at 5)": "privyseal state adopt",
		"cannot load the shared mark: " + sharedmark.ErrExported.Error():                   "privyseal state import",
		"cannot load the shared mark: no answer":                                           "",
		"cannot open the key: " + sharedmark.ErrDamaged.Error():                            "",
	} {
		err := provider.Explained(open, errors.New(text))
		failed, next := cure.Split(err.Error())
		if !strings.Contains(failed, text) || (next == "") != (want == "") || !strings.Contains(next, want) || provider.StateRefused(err) != (want != "") {
			t.Errorf("%q: %q, %q", text, failed, next)
		}
	}
	if err := provider.Explained(open, nil); err != nil {
		t.Error(err)
	}
	other := errors.New("cannot load the shared mark: " + sharedmark.ErrRestored.Error())
	if err := provider.Explained(nil, other); err != other {
		t.Error(err)
	}
}
