package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/pubkey"
	"privyseal/internal/watermark"
)

// bare is a provider whose states are bare marks.
type bare struct{ Files }

func (bare) Public(*config.Config, config.Chain) (pubkey.Key, error) {
	return pubkey.Key{}, errors.New("no key here")
}

// sealed is a provider whose states begin with "sealed" where others have sign bytes.
type sealed struct{ bare }

func (sealed) Shown(m watermark.Mark) watermark.Mark {
	m.SignBytes = nil
	return m
}

func (sealed) Accepts(m watermark.Mark) error {
	if !strings.HasPrefix(string(m.SignBytes), "sealed") {
		return errors.New("it was not sealed")
	}
	return nil
}

func (sealed) Lost(*config.Config, config.Chain, bool) string { return "ask who sealed it" }

func (sealed) CheckState(*Report, int, watermark.Mark) {}

var table = Table{
	{Name: "a", Where: "here", Holder: bare{}},
	{Name: "b", Where: "there", Writer: "a sealer", Holder: sealed{}},
	{Name: "c", Where: "nowhere", Holder: bare{}},
}

func chainOf(provider string) config.Chain {
	return config.Chain{ID: "chain", Name: "chain", Provider: provider}
}

// open is a provider whose keys this process signs with.
type open struct{ bare }

func (open) Open(context.Context, *config.Config, config.Chain) (Key, error) { return nil, nil }

// What is asked of a provider goes to that of the chain, and what is not there is nothing.
func TestWhoIsAsked(t *testing.T) {
	table := append(slices.Clone(table), Entry{Name: "d", Holder: open{}})
	for name, want := range map[string][2]bool{"a": {}, "b": {false, true}, "d": {true, false}, "e": {}} {
		_, local := table.Local(chainOf(name))
		_, keeps := table.Keeper(chainOf(name))
		if got := [2]bool{local, keeps}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	key := filepath.Join(t.TempDir(), "key")
	k, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Create(key, k); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{}
	for _, ask := range []func(ch config.Chain) (pubkey.Key, error){
		func(ch config.Chain) (pubkey.Key, error) { return table.Public(c, ch) },
		func(ch config.Chain) (pubkey.Key, error) { return table.Identity(c, ch) },
	} {
		ch := chainOf("a")
		ch.Identity = key + ".none"
		_, err := ask(ch)
		if _, act := errors.AsType[cli.ActError](err); !act {
			t.Errorf("a key that is not there waits for nobody: %v", err)
		}
		if _, err := ask(chainOf("e")); err == nil || !strings.Contains(err.Error(), "not in this build") {
			t.Errorf("a provider that the build lacks: %v", err)
		}
	}
	_, err = OpenFile(key + ".none")
	if _, act := errors.AsType[cli.ActError](err); !act {
		t.Errorf("a key file that is not there waits for nobody: %v", err)
	}
	ch := chainOf("a")
	ch.Identity = key
	if got, err := table.Identity(c, ch); err != nil || !got.Equal(k.PublicKey()) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTypesOfAProvider(t *testing.T) {
	e := Entry{Name: "a", Types: []pubkey.Type{pubkey.Ed25519, pubkey.Secp256k1}}
	for _, c := range []struct {
		of      pubkey.Type
		because string
		wrong   string
	}{
		{pubkey.Ed25519, "", ""},
		{pubkey.Secp256k1, "", ""},
		{pubkey.MLDSA65, "", "provider a has no ml_dsa_65 keys; it has ed25519 or secp256k1"},
		{pubkey.MLDSA65, "they are long", "provider a has no ml_dsa_65 keys: they are long; it has ed25519 or secp256k1"},
	} {
		e.NoOther = c.because
		err := e.Has(c.of)
		if (err == nil) != (c.wrong == "") || err != nil && err.Error() != c.wrong {
			t.Errorf("%s: %v, want %q", c.of, err, c.wrong)
		}
		if _, usage := errors.AsType[cli.UsageError](err); err != nil && !usage {
			t.Errorf("%v is no wrong usage", err)
		}
	}
}

func TestKinds(t *testing.T) {
	kinds := Table{{Name: "a", Kind: config.Kind{Table: "x"}}, {Name: "b"}}.Kinds()
	if len(kinds) != 2 || kinds[0].Provider != "a" || kinds[0].Table != "x" || kinds[1].Provider != "b" {
		t.Errorf("%+v", kinds)
	}
}

// Where only the one who signs can make a state, the next step after its loss is that one's.
func TestExplainState(t *testing.T) {
	for _, c := range []struct {
		provider string
		reason   error
		cure     string
	}{
		{"a", ErrMissing, "make it"}, {"b", ErrMissing, "ask who sealed it"}, {"b", ErrDamaged, "ask who sealed it"}, {"b", ErrLocked, "make it"},
	} {
		err := table.ExplainState(nil, chainOf(c.provider), &StateError{c.reason, errors.New("gone"), "make it"})
		if e, ok := errors.AsType[*StateError](err); !ok || e.Cure != c.cure || !errors.Is(err, c.reason) || err.Error() != "gone\n"+c.cure {
			t.Errorf("%s, %v: %v", c.provider, c.reason, err)
		}
	}
	if err := table.ExplainState(nil, chainOf("b"), fs.ErrPermission); err != fs.ErrPermission {
		t.Errorf("another error: %v", err)
	}
	if got := (&StateError{ErrMissing, errors.New("gone"), ""}).Error(); got != "gone" {
		t.Errorf("%q", got)
	}
}

// A state that another process has may become free; all else waits for an operator.
func TestStateRefused(t *testing.T) {
	for _, reason := range []error{ErrMissing, ErrExists, ErrUnsafe, ErrDamaged, ErrForeign, ErrCopied, ErrRestored, ErrExported, ErrBelow, ErrUnjoined, ErrClone, ErrSplit} {
		if !StateRefused(fmt.Errorf("cannot open it: %w", &StateError{Reason: reason, Err: errors.New("x")})) {
			t.Errorf("%v is not refused", reason)
		}
	}
	for _, err := range []error{nil, ErrLocked, ErrTwin, fs.ErrPermission} {
		if StateRefused(err) {
			t.Errorf("%v is refused", err)
		}
	}
}

func TestLists(t *testing.T) {
	if got := table.Names(); got != "a, b or c" {
		t.Error(got)
	}
	if got := table[:2].Help(); got != "a (here) or b (there)" {
		t.Error(got)
	}
	if _, err := table.Of(chainOf("d")); err == nil || !strings.Contains(err.Error(), "a, b or c") {
		t.Errorf("a provider that the build lacks: %v", err)
	}
}

// A state is gone on from by the provider that it was written for, and by no other.
func TestWhoseState(t *testing.T) {
	c, err := config.Kinds{{Provider: "a"}}.Parse("/home/p/privyseal.toml", []byte("[[chain]]\nid=\"chain\"\nprovider=\"a\"\nkey=\"k\"\nstate=\"s\"\nnode=[{addr=\"unix:///n\"}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	own := watermark.Mark{Height: 7, Step: watermark.StepPrevote, SignBytes: []byte("a vote")}
	record := watermark.Mark{Height: 9, Step: watermark.StepPrevote, SignBytes: []byte("sealed vote")}
	for _, tt := range []struct {
		provider string
		mark     watermark.Mark
		taken    string // part of why it is not taken from elsewhere
		inPlace  string // and where it is
	}{
		{"a", own, "", ""},
		{"a", watermark.Mark{}, "", ""},
		{"a", record, "that of a sealer, at height 9", "--home /home/p --chain-id chain --after-height H"},
		{"b", record, "", ""},
		{"b", own, "not sealed", ""}, // in its place it judges it itself
	} {
		for want, err := range map[string]error{tt.taken: table.Accepts(chainOf(tt.provider), tt.mark), tt.inPlace: table.InPlace(c, chainOf(tt.provider), tt.mark)} {
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %v: %v, want %q", tt.provider, tt.mark, err, want)
			}
		}
	}
	if m := table.Shown(chainOf("b"), record); m.SignBytes != nil || table.Shown(chainOf("a"), record).SignBytes == nil {
		t.Errorf("a mark is shown as %v", m)
	}
}

// A chain's state is in the store that it names, and else in the first.
func TestStoreOfAChain(t *testing.T) {
	table := func(name string) Store {
		return Store{Name: name, Kind: config.Kind{Table: name}, State: func(at Place, _ watermark.ID) Kept {
			return Kept{Where: name + at.Path(at.Section.(section).word)}
		}}
	}
	stores := Stores{{Name: "first", State: func(at Place, _ watermark.ID) Kept { return Kept{Where: "first" + at.Path(at.State)} }}, table("second"), table("third")}
	tables := map[string]map[string]config.Section{"second": {"a": section{word: "A"}, "b": section{word: "B"}}}
	for _, tt := range []struct {
		store, table string
		want         string
	}{
		{"", "", "first/s"},
		{"first", "", "first/s"},
		{"second", "b", "second/B"},
		{"second", "c", "there is no [second.c]"},
		{"third", "a", "there is no [third.a]"},
		{"fourth", "", "store \"fourth\" is not in this build"},
	} {
		got, err := stores.StateIn(tables, func(p string) string { return "/" + p }, config.Chain{Store: tt.store, StoreTable: tt.table, State: "s"}, watermark.ID{})
		if err == nil && got.Where != tt.want || err != nil && err.Error() != tt.want {
			t.Errorf("%+v: %q, %v", tt, got.Where, err)
		}
	}
	if kinds := stores.Kinds(); len(kinds) != 3 || kinds[2].Store != "third" || kinds[2].Table != "third" {
		t.Errorf("%+v", kinds)
	}
}

// section is a table of a store.
type section struct {
	config.Section
	word string
}

func TestReport(t *testing.T) {
	var r Report
	r.Add(Good, 0, "home", "fine", "")
	r.Chain = "a"
	r.Add(Bad, 3, "state", "gone\n`put it back`", "")
	r.Add(Unsure, 4, "node", "quiet\nnot a cure", "call it")
	if text, err := json.Marshal([]Verdict{Good, Unsure, Bad}); err != nil || string(text) != `["ok","unsure","fail"]` {
		t.Errorf("%s, %v", text, err)
	}
	if r.Failed() != 1 || r.Rows[1] != (Row{Bad, "a", "state", "", 3, "gone", "`put it back`"}) || r.Rows[2].Cure != "call it" || r.Rows[0].Chain != "" {
		t.Errorf("%+v", r.Rows)
	}
}
