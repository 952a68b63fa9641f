package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/config"

	"github.com/google/go-cmp/cmp"
)

// shelf is a store's table, [shelf.NAME].
type shelf struct {
	Folder string
	Height int
}

var shelfOptions = config.Options[shelf]{
	{Name: "folder", Of: func(s *shelf) any { return &s.Folder }, Required: true, Path: true},
	{Name: "height", Of: func(s *shelf) any { return &s.Height }, Standard: "2"},
}

func (s *shelf) Fill(written func(string) bool) { shelfOptions.Fill(s, written) }

func (s *shelf) Check(written func(string) bool, fail func(key, wrong string)) {
	shelfOptions.Check(s, written, fail)
}

func (s *shelf) Render(w *config.Lines) { shelfOptions.Render(s, w) }

func (s *shelf) Secret() (string, bool) { return shelfOptions.Secret(s) }

// withShelf are kinds with two stores, the second of which has tables.
func withShelf() config.Kinds {
	decode := func(values map[string]any, fail func(key, wrong string)) config.Section {
		s := &shelf{}
		shelfOptions.Decode(s, values, fail)
		return s
	}
	return append(withVault(), config.Kind{Store: "file"}, config.Kind{
		Store: "shelf", Table: "shelf", Noun: "a shelf", Decode: decode,
		Keys:    shelfOptions.Keys(),
		Refused: map[string]string{"max_height": "is what the shelf has"},
	})
}

// onShelf is a chain whose state is on a shelf.
const onShelf = `[log]
[[chain]]
id = "chain-1"
provider = "soft"
key = "k"
store = "shelf"
shelf = "left"
state = "s"
node = [ { addr = "unix:///n" } ]
[shelf.left]
folder = "f"
`

func TestStoreOfAChain(t *testing.T) {
	c, err := withShelf().Parse("/home/p/privyseal.toml", []byte(onShelf))
	if err != nil {
		t.Fatal(err)
	}
	ch := c.Chains[0]
	if ch.Store != "shelf" || ch.StoreTable != "left" || ch.Table != "" {
		t.Errorf("the chain is in store %q, table %q", ch.Store, ch.StoreTable)
	}
	if diff := cmp.Diff(map[string]string{"shelf": "left"}, c.Named(ch)); diff != "" {
		t.Error(diff)
	}
	if got := c.Tables["shelf"]["left"].(*shelf); *got != (shelf{"f", 2}) {
		t.Errorf("the table holds %+v", got)
	}
	// The same once more, as a file that is written, and one that is added to.
	path := filepath.Join(t.TempDir(), "privyseal.toml")
	if err := config.WriteNew(path, c); err != nil {
		t.Fatal(err)
	}
	again, err := withShelf().Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Chains, again.Chains); diff != "" {
		t.Error(diff)
	}
	more := config.NewChain("chain-2", "")
	more.Nodes, more.Store, more.StoreTable = []config.Node{{Name: "node1", Addr: "unix:///n2"}}, "shelf", "right"
	tables := map[string]map[string]config.Section{"shelf": {"right": &shelf{Folder: "g"}}}
	if err := withShelf().Append(path, tables, more, config.Chain{ID: "chain-3", Name: "chain-3", Provider: "soft", Key: "k3", State: "s3", Nodes: []config.Node{{Name: "node1", Addr: "unix:///n3"}},
		HeightBurst: 1, HeightPerSecond: 1, Timeout: more.Timeout, WitnessWait: more.WitnessWait}); err != nil {
		t.Fatal(err)
	}
	if again, err = withShelf().Load(path); err != nil {
		t.Fatal(err)
	}
	if a, b := again.Chains[1], again.Chains[2]; a.Store != "shelf" || a.StoreTable != "right" || b.Store != "file" || b.StoreTable != "" {
		t.Errorf("added: %+v, %+v", a, b)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "store = ") != 2 {
		t.Errorf("%v\n%s", err, text)
	}
}

// What is wrong with a store is one message, at its line.
func TestWrongStores(t *testing.T) {
	for _, tt := range []struct{ old, now, want string }{
		{`"shelf"`, `"self"`, `6: chain "chain-1": store "self" is not in this build; it has "file" and "shelf"`},
		{`"shelf"`, `""`, `6: chain "chain-1": store is empty`},
		{`"shelf"`, `7`, `6: chain.0.store: want a string in quotes`},
		{"[shelf.left]\n", "[dynamodb.eu]\n[shelf.left]\n", `10: unknown key dynamodb`},
		{"shelf = \"left\"\n", "", `2: chain "chain-1": shelf is missing: the name of a table [shelf.NAME]`},
		{`"left"`, `"right"`, `7: chain "chain-1": there is no [shelf.right]`},
		{"store = \"shelf\"\n", "", `6: chain "chain-1": shelf is for the store "shelf"`},
		{"store = \"shelf\"\n", "store = \"file\"\n", `7: chain "chain-1": shelf is for the store "shelf"`},
		{"shelf = \"left\"\n", "shelf = \"left\"\nvault = \"main\"\n", `8: chain "chain-1": vault is for the provider "vault"`},
		{"[shelf.left]\n", "[shelf.left]\nfolder = \"x\"\n[shelf.left]\n", `12: duplicate shelf.left, first on line 10`},
		{"[shelf.left]\n", "[shelf.\"l.r\"]\n", `10: "l.r" is not the name of a shelf: 1 to 40 of A-Z a-z 0-9 _ -`},
		{"[shelf.left]\n", "[shelf.left]\nheigth = 3\n", `11: unknown key shelf.left.heigth; did you mean height?`},
		{"folder = \"f\"", "height = 3", `10: shelf left: folder is missing`},
		{"folder = \"f\"", "folder = 3", `11: shelf.left.folder: want a string in quotes`},
		{`state = "s"`, "state = \"s\"\nmax_height = 3", `9: chain "chain-1": max_height is what the shelf has`},
		{`state = "s"`, "", `2: chain "chain-1": state is missing`},
	} {
		text := strings.Replace(onShelf, tt.old, tt.now, 1)
		_, err := withShelf().Parse("p", []byte(text))
		problems, ok := errors.AsType[*config.Error](err)
		switch {
		case !ok:
			t.Errorf("%q: %v", tt.now, err)
		case !strings.Contains(onShelf, tt.old):
			t.Errorf("%q is not in the config", tt.old)
		case len(problems.Problems) == 1 && problems.Problems[0].Next == "" && err.Error() != "p:"+tt.want:
			t.Errorf("%q:\n%v, want\n%s", tt.now, err, tt.want)
		case len(problems.Problems) > 1:
			t.Errorf("%q: more than one message:\n%v", tt.now, err)
		}
	}
	// A table that no chain names loads: `privyseal check` has a row for it.
	if _, err := withShelf().Parse("p", []byte(onShelf+"[shelf.right]\nfolder = \"g\"\n")); err != nil {
		t.Error(err)
	}
}
