package home

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"

	"privyseal/internal/cli"
	"privyseal/internal/config"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	"privyseal/internal/pubkey/keytext"
	"privyseal/internal/watermark"
)

// drawer is one [drawer.NAME]. Its states are in memory.
type drawer struct{ Label string }

var drawerOptions = config.Options[drawer]{{Name: "label", Of: func(d *drawer) any { return &d.Label }, Required: true}}

func (d *drawer) Fill(written func(string) bool) { drawerOptions.Fill(d, written) }

func (d *drawer) Check(written func(string) bool, fail func(key, wrong string)) {
	drawerOptions.Check(d, written, fail)
}

func (d *drawer) Render(w *config.Lines) { drawerOptions.Render(d, w) }

func (d *drawer) Secret() (string, bool) { return drawerOptions.Secret(d) }

// filed is a state in a drawer.
type filed struct {
	provider.State
	states map[string]watermark.Saved
	label  string
}

func (f filed) Create(_ context.Context, first watermark.Saved) error {
	f.states[f.label] = first
	return nil
}

func (f filed) Inspect(context.Context) (provider.Info, error) {
	saved, there := f.states[f.label]
	if !there {
		return provider.Info{}, &provider.StateError{Reason: provider.ErrMissing, Err: errors.New("the drawer is empty")}
	}
	return provider.Info{Saved: saved}, nil
}

// keyless is a provider that knows no key of another chain.
type keyless struct{ provider.Holder }

func (keyless) Public(*config.Config, config.Chain) (pubkey.Key, error) {
	return pubkey.Key{}, errors.New("no key")
}

// withDrawers is a home folder in which states can be in drawers.
func withDrawers(t *testing.T, states map[string]watermark.Saved) *provider.House {
	t.Helper()
	stores := provider.Stores{{Name: "file"}, {
		Name: "drawer",
		Kind: config.Kind{Table: "drawer", Noun: "a drawer", Keys: drawerOptions.Keys(), Decode: func(values map[string]any, fail func(key, wrong string)) config.Section {
			d := &drawer{}
			drawerOptions.Decode(d, values, fail)
			return d
		}},
		State: func(at provider.Place, _ watermark.ID) provider.Kept {
			return provider.Kept{State: filed{states: states, label: at.Section.(*drawer).Label}}
		},
	}}
	table := provider.Table{{Name: "soft", Types: []pubkey.Type{pubkey.Ed25519}, Holder: keyless{}}}
	app := &cli.App{HomeFlag: filepath.Join(t.TempDir(), "home"), Kinds: append(table.Kinds(), stores.Kinds()...)}
	return &provider.House{App: app, Providers: table, Stores: stores}
}

// inDrawer is a new chain whose state is in a drawer that the config does not have yet.
func inDrawer(t *testing.T) *Chain {
	t.Helper()
	key, err := soft.Generate(pubkey.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ch := &Chain{Chain: config.NewChain("chain-1", ""), SoftKey: key}
	ch.Nodes = []config.Node{{Name: "node1", Addr: "unix:///n"}}
	ch.Store, ch.StoreTable = "drawer", "top"
	ch.StoreTables = map[string]map[string]config.Section{"drawer": {"top": &drawer{"left"}}}
	return ch
}

// A chain is made with its state in a table that comes with it. One that was cut off before
// the config had the table is taken back when the command is typed again, unless its state
// has moved.
func TestInstallWithATableOfItsStore(t *testing.T) {
	for name, tt := range map[string]struct {
		at   int64 // the height of the state that is left
		left bool  // the first key
	}{
		"as it was made": {0, false},
		"signed":         {5, true},
	} {
		t.Run(name, func(t *testing.T) {
			states := map[string]watermark.Saved{}
			house := withDrawers(t, states)
			first := inDrawer(t)
			cutBeforeConfig(t, house, first)
			if tt.at > 0 {
				states["left"] = watermark.Saved{Mark: watermark.Floor(tt.at)}
			}
			second := inDrawer(t)
			in, err := NewInstaller(house)
			if err != nil {
				t.Fatal(err)
			}
			err = in.Install(second)
			if (err != nil) != tt.left {
				t.Fatalf("the second run: %v", err)
			}
			if there := keyfile.IsMade(in.Abs(first.Key), first.PublicKey()); there != tt.left {
				t.Errorf("the first key is there: %v", there)
			}
			if tt.left {
				return
			}
			c, err := house.Kinds.Load(in.Path)
			if err != nil {
				t.Fatal(err)
			}
			d, ok := c.Tables["drawer"]["top"].(*drawer)
			if ch := c.Chains[0]; !ok || d.Label != "left" || ch.Store != "drawer" || ch.StoreTable != "top" {
				t.Errorf("the config has %+v and %v", ch, c.Tables)
			}
		})
	}
}

// init makes a chain in the store that it is told, and in a table that it is told of.
func TestOrderOfAStore(t *testing.T) {
	states := map[string]watermark.Saved{}
	house := withDrawers(t, states)
	tables := map[string]map[string]config.Section{"drawer": {"top": &drawer{"left"}}}
	wrong := errors.New("no such drawer")
	for _, tt := range []struct {
		id     string
		tables map[string]map[string]config.Section
		err    error
	}{
		{"refused", nil, wrong},
		{"new", tables, nil},
		{"there", nil, nil},
	} {
		o := &Order{Provider: "soft", Store: "drawer", ChainID: tt.id, Nodes: []config.Node{{Name: "node1", Addr: "unix:///" + tt.id}}, Form: keytext.Form{Format: "json"},
			Pick: func(*config.Config) (string, map[string]map[string]config.Section, error) {
				return "top", tt.tables, tt.err
			}}
		cmd := &cobra.Command{}
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := o.Install(cmd, house, func(_ *Installer, ch *Chain) (err error) {
			ch.SoftKey, err = soft.Generate(pubkey.Ed25519)
			return err
		})
		if !errors.Is(err, tt.err) {
			t.Fatalf("%s: %v", tt.id, err)
		}
	}
	c, err := house.Kinds.Load(filepath.Join(house.HomeFlag, config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Chains) != 2 || c.Chains[1].Store != "drawer" || c.Chains[1].StoreTable != "top" || c.Chains[1].ID != "there" {
		t.Errorf("the config has %+v", c.Chains)
	}
}

// cutBeforeConfig makes what an installation makes that is killed before it writes the
// config.
func cutBeforeConfig(t *testing.T, house *provider.House, ch *Chain) {
	t.Helper()
	in, err := NewInstaller(house)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(in.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	in.tables = ch.StoreTables
	note, err := BeginNote(Place{Dir: in.Dir, Kinds: house.Kinds, Stores: house.Stores, IsKey: keyfile.IsMade})
	if err != nil {
		t.Fatal(err)
	}
	defer note.Leave()
	list, err := ch.Unfinished(in)
	if err := errors.Join(err, note.Write(list), in.AddKey(ch), in.AddState(ch)); err != nil {
		t.Fatal(err)
	}
}
