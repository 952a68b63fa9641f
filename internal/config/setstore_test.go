package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/config"
)

const inFile = `# My signer.
[[chain]] # the first
id = "chain-1"
provider = "soft"
key = "k1"
state = "s1" # on /dev/sda
node = [ { addr = "unix:///n1" } ]

[[chain]]
id = "chain-2"
provider = "soft"
key = "k2"
state = "s2"
node = [ { addr = "unix:///n2" } ]
`

// A chain gets another store, and not a byte of the rest changes.
func TestSetStore(t *testing.T) {
	right := map[string]map[string]config.Section{"shelf": {"right": &shelf{Folder: "g", Height: 2}}}
	for _, tt := range []struct {
		name, before  string
		chain         string
		store, table  string
		added         map[string]map[string]config.Section
		gone, instead string // a piece of before, and what is there afterwards
		end           string // added
		refused       string
	}{
		{name: "out of a file", before: inFile, chain: "chain-1", store: "shelf", table: "right", added: right,
			gone: "state = \"s1\"", instead: "store = \"shelf\"\nshelf = \"right\"\nstate = \"s1\"", end: "\n[shelf.right]\nfolder = \"g\"\n"},
		{name: "the second chain", before: inFile, chain: "chain-2", store: "shelf", table: "right", added: right,
			gone: "state = \"s2\"", instead: "store = \"shelf\"\nshelf = \"right\"\nstate = \"s2\"", end: "\n[shelf.right]\nfolder = \"g\"\n"},
		{name: "back to a file", before: onShelf, chain: "chain-1", store: "file", gone: "store = \"shelf\"\nshelf = \"left\"\n"},
		{name: "from a table to another", before: onShelf, chain: "chain-1", store: "shelf", table: "right", added: right,
			gone: "shelf = \"left\"", instead: "shelf = \"right\"", end: "\n[shelf.right]\nfolder = \"g\"\n"},
		{name: "a file that is named", before: strings.Replace(inFile, "state = \"s2\"", "state = \"s2\"\nstore = 'file' # for now", 1), chain: "chain-2", store: "shelf", table: "right", added: right,
			gone: "store = 'file' # for now", instead: "store = \"shelf\"\nshelf = \"right\"", end: "\n[shelf.right]\nfolder = \"g\"\n"},
		{name: "no line feed at the end", before: strings.TrimSuffix(inFile, "\n"), chain: "chain-1", store: "shelf", table: "right", added: right,
			gone: "state = \"s1\"", instead: "store = \"shelf\"\nshelf = \"right\"\nstate = \"s1\"", end: "\n\n[shelf.right]\nfolder = \"g\"\n"},
		{name: "chains in one value", before: "chain = [ { id = \"chain-1\", provider = \"soft\", key = \"k\", state = \"s\", node = [ { addr = \"unix:///n\" } ] } ]\n",
			chain: "chain-1", store: "shelf", table: "right", added: right, refused: "write it by hand, in the table of the chain:\nstore = \"shelf\"\nshelf = \"right\""},
		{name: "a value of several lines", before: strings.Replace(onShelf, `"left"`, "\"\"\"left\"\"\"", 1), chain: "chain-1", store: "file", refused: "by hand"},
		{name: "no such table", before: inFile, chain: "chain-1", store: "shelf", table: "right", refused: "there is no [shelf.right]"},
		{name: "no such chain", before: inFile, chain: "chain-3", store: "shelf", table: "right", added: right, refused: `has no chain "chain-3"`},
		{name: "a table that is there", before: onShelf, chain: "chain-1", store: "shelf", table: "left", added: map[string]map[string]config.Section{"shelf": {"left": &shelf{Folder: "g"}}}, refused: "duplicate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "privyseal.toml")
			if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
			edit, err := withShelf().SetStore(path, tt.added, config.Chain{Name: tt.chain, Store: tt.store, StoreTable: tt.table})
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("%v, want %s", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := os.ReadFile(path); string(text) != tt.before {
				t.Fatalf("written before it was asked for:\n%s", text)
			}
			if err := edit.Write(); err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(tt.before, tt.gone, tt.instead, 1) + tt.end
			if text, _ := os.ReadFile(path); string(text) != want {
				t.Errorf("got\n%s\nwant\n%s", text, want)
			}
			lines := strings.Join(edit.Lines, "\n")
			for _, line := range strings.Split(strings.TrimSpace(tt.instead+tt.end), "\n") {
				if line != "" && !strings.Contains(tt.before, line+"\n") && !strings.Contains(tt.before, line+" #") && !strings.Contains(lines, "+ "+line) {
					t.Errorf("%q is not shown:\n%s", line, lines)
				}
			}
			if err := edit.Write(); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
				t.Errorf("again: %v", err)
			}
		})
	}
}
