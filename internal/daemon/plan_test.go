package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"privyseal/internal/config"
)

const before = `listen = "127.0.0.1:1"
[log]
level = "info"
[[chain]]
id = "a"
provider = "soft"
key = "a.key"
state = "a.mark"
node = [{ name = "n", addr = "unix:///n" }, { name = "m", addr = "unix:///m" }]
[[chain]]
id = "b"
provider = "soft"
key = "b.key"
state = "b.mark"
node = [{ addr = "unix:///b" }]
[[chain]]
id = "e"
provider = "nitro"
enclave = "main"
key = "e.wrapped"
state = "e.mark"
node = [{ addr = "unix:///e" }]
[enclave.main]
eif = "e.eif"
`

// kinds are those of a build with key files and enclaves.
var kinds = config.Kinds{{Provider: "soft"}, enclaveKind()}

func enclaveKind() config.Kind {
	return config.Kind{
		Provider: "nitro", Table: "enclave", Noun: "an enclave", Apart: "in an enclave", Keys: []config.Key{{Name: "eif", Type: "a string"}},
		Decode: func(values map[string]any, _ func(key, wrong string)) config.Section {
			eif, _ := values["eif"].(string)
			return &enclave{eif}
		},
	}
}

// enclave is a table of a provider.
type enclave struct {
	EIF string
}

func (*enclave) Fill(func(string) bool)                          {}
func (*enclave) Check(func(string) bool, func(key, text string)) {}
func (*enclave) Secret() (string, bool)                          { return "", false }
func (e *enclave) Render(w *config.Lines)                        { w.Line(true, "eif", config.Quote(e.EIF)) }

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := kinds.Parse("/home/privyseal.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDiff is the table of what a reload does.
func TestDiff(t *testing.T) {
	added := "[[chain]]\nid = \"c\"\nprovider = \"soft\"\nkey = \"c.key\"\nstate = \"c.mark\"\nnode = [{ addr = \"unix:///c\" }]\n"
	for _, c := range []struct {
		name, from, to string
		dead           string // the chain that could not be opened
		done, refused  string
		stop, start    string
		change         string
	}{
		{name: "nothing"},
		{name: "comments", from: "[log]", to: "[log] # said less"},
		{name: "level", from: `"info"`, to: `"debug"`, done: "log level debug"},
		{name: "format", from: "[log]", to: "[log]\nformat = \"json\"", refused: "log.format"},
		{name: "listen", from: `"127.0.0.1:1"`, to: `""`, refused: "listen"},
		{name: "a node more", from: `{ name = "m"`, to: `{ addr = "unix:///x" }, { name = "m"`, done: "chain a: nodes", change: "a + node2"},
		{name: "a node less", from: `, { name = "m", addr = "unix:///m" }`, done: "chain a: nodes", change: "a - m"},
		{name: "a node moves", from: `unix:///m`, to: `unix:///x`, done: "chain a: nodes", change: "a - m + m"},
		{name: "a node is renamed", from: `name = "m"`, to: `name = "k"`, done: "chain a: nodes", change: "a - m + k"},
		{name: "nodes in another order", from: `{ name = "n", addr = "unix:///n" }, { name = "m", addr = "unix:///m" }`, to: `{ name = "m", addr = "unix:///m" }, { name = "n", addr = "unix:///n" }`},
		{name: "a user for a node", from: `addr = "unix:///m"`, to: `addr = "unix:///m", peer_uid = 5`, done: "chain a: nodes", change: "a - m + m"},
		{name: "the first node with an identity", from: `"a.key"`, to: "\"a.key\"\nidentity = \"i\"", done: "chain a: identity"},
		{name: "a witness", from: `"a.mark"`, to: "\"a.mark\"\nwitness = [\"http://w:1\"]", done: "chain a: witnesses", change: "a"},
		{name: "a witness of a chain in an enclave", from: `"e.mark"`, to: "\"e.mark\"\nwitness = [\"http://w:1\"]", refused: "chain e, which is in an enclave"},
		{name: "a key", from: `"a.key"`, to: `"x.key"`, refused: "chain a: key"},
		{name: "a state", from: `"a.mark"`, to: `"x.mark"`, refused: "chain a: state"},
		{name: "bounds", from: `"a.mark"`, to: "\"a.mark\"\nmax_height = 5\nheight_burst = 7", refused: "chain a: max_height, height_burst"},
		{name: "a key and a node", from: "\"a.key\"\nstate = \"a.mark\"\nnode = [{ name = \"n\"", to: "\"x.key\"\nstate = \"a.mark\"\nnode = [{ name = \"k\"", done: "chain a: nodes", refused: "chain a: key", change: "a - n + k"},
		{name: "a chain more", from: "[[chain]]\nid = \"e\"", to: added + "[[chain]]\nid = \"e\"", done: "chain c added", start: "c"},
		{name: "a chain more, in an enclave", from: "[enclave.main]", to: strings.NewReplacer(`"soft"`, "\"nitro\"\nenclave = \"main\"").Replace(added) + "[enclave.main]", refused: "chain c, which is in an enclave"},
		{name: "a chain less", from: between(before, "id = \"b\"", "[[chain]]\nid = \"e\""), done: "chain b removed", stop: "b"},
		{name: "a chain in an enclave less", from: between(before, "id = \"e\"", "[enclave.main]"), refused: "the end of chain e, which is in an enclave"},
		{name: "a chain in an enclave changes", from: "unix:///e", to: "unix:///x", refused: "chain e, which is in an enclave"},
		{name: "an image", from: "e.eif", to: "f.eif", refused: "enclave"},
		{name: "a new provider", from: "id = \"b\"\nprovider = \"soft\"", to: "id = \"b\"\nenclave = \"main\"\nprovider = \"nitro\"", refused: "chain b: provider, enclave"},
		{name: "a chain is renamed", from: "id = \"b\"", to: "id = \"b\"\nname = \"d\"", done: "chain d added; chain b removed", stop: "b", start: "d"},
		{name: "an id under the same name", from: "id = \"b\"", to: "id = \"d\"\nname = \"b\"", refused: "chain b: id"},
		{name: "a dead chain", dead: "b", done: "chain b opened again", stop: "b", start: "b"},
		{name: "a dead chain with a new key", from: `"b.key"`, to: `"x.key"`, dead: "b", done: "chain b opened again", stop: "b", start: "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(before, c.from) {
				t.Fatalf("%q is not there", c.from)
			}
			old, next := parse(t, before), parse(t, strings.Replace(before, c.from, c.to, 1))
			p := Diff(old, next, func(name string) bool { return name == c.dead && name != "" })
			got := []string{strings.Join(p.Done, "; "), strings.Join(p.Refused, "; "), strings.Join(p.Stop, " "), names(p.Start), changes(p.Change)}
			if diff := cmp.Diff([]string{c.done, c.refused, c.stop, c.start, c.change}, got); diff != "" {
				t.Errorf("done, refused, stop, start, change (-want +got):\n%s", diff)
			}
			checkForce(t, old, next, p)
		})
	}
}

// between is the part of text with a chain, from the line before a key of it.
func between(text, from, to string) string {
	i := strings.Index(text, "[[chain]]\n"+from)
	j := strings.Index(text, to)
	return text[i:j]
}

func names(chains []config.Chain) string {
	var list []string
	for _, ch := range chains {
		list = append(list, ch.Name)
	}
	return strings.Join(list, " ")
}

func changes(list []Change) string {
	var text []string
	for _, c := range list {
		line := c.Chain.Name
		for _, name := range c.Remove {
			line += " - " + name
		}
		for _, n := range c.Add {
			line += " + " + n.Name
		}
		text = append(text, line)
	}
	return strings.Join(text, "; ")
}

// checkForce checks that what is in force afterwards differs from the new config
// just where something was refused: a second reload does nothing and says the same.
func checkForce(t *testing.T, old, next *config.Config, p *Plan) {
	t.Helper()
	alive := func(string) bool { return false }
	again := Diff(p.Config, next, alive)
	if !again.Empty() || !slices.Equal(again.Refused, p.Refused) {
		t.Errorf("again: %q, refused %q and not %q", again.Done, again.Refused, p.Refused)
	}
	back := Diff(p.Config, old, alive)
	if p.Empty() && (!back.Empty() || len(back.Refused) > 0) {
		t.Errorf("nothing was done, and the way back is %q, refused %q", back.Done, back.Refused)
	}
}

// Every key of a chain is either reloaded or refused: a new one cannot be forgotten.
func TestEveryKeyCounts(t *testing.T) {
	reloaded := []string{"Name", "Nodes", "ImportedFrom", "Witness", "WitnessWait"} // the name is what makes it the same chain
	for i := range reflect.TypeFor[config.Chain]().NumField() {
		field := reflect.TypeFor[config.Chain]().Field(i)
		if slices.Contains(reloaded, field.Name) {
			continue
		}
		a := config.Chain{Name: "c", Identity: "i"}
		b := a
		v := reflect.ValueOf(&b).Elem().Field(i)
		switch v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int64:
			v.SetInt(5)
		case reflect.Struct:
			v.Field(0).SetInt(5)
		default:
			t.Fatalf("%s is of a kind that this test does not know", field.Name)
		}
		p := &Plan{}
		p.change(place{a, enclaveKind()}, place{b, enclaveKind()})
		key, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
		if field.Name == "Table" {
			key = enclaveKind().Table
		}
		if field.Name == "StoreTable" {
			key = "store"
		}
		if want := []string{"chain c: " + key}; !slices.Equal(p.Refused, want) {
			t.Errorf("%s changes, and refused is %q", field.Name, p.Refused)
		}
	}
}

// world writes down what it is asked for.
type world struct{ did []string }

func (w *world) SetLevel(level string) { w.did = append(w.did, "level "+level) }
func (w *world) StopChain(name string) { w.did = append(w.did, "stop "+name) }
func (w *world) ChangeChain(_ context.Context, c Change) {
	w.did = append(w.did, "change "+c.Chain.Name)
}
func (w *world) StartChains(_ context.Context, l []config.Chain) {
	w.did = append(w.did, fmt.Sprint("start ", names(l)))
}

// What ends comes before what starts.
func TestApply(t *testing.T) {
	text := strings.NewReplacer(`"info"`, `"warn"`, "unix:///m", "unix:///x", `id = "b"`, `id = "d"`).Replace(before)
	w := &world{}
	Diff(parse(t, before), parse(t, text), func(string) bool { return false }).Apply(t.Context(), w)
	if diff := cmp.Diff([]string{"level warn", "stop b", "change a", "start d"}, w.did); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
