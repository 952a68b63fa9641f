package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"privyseal/internal/spelling"
)

// document is what one walk over the file finds: where each key is, and
// which ones are unknown, duplicate or of the wrong type.
type document struct {
	kinds    Kinds
	keys     map[string]string // all there are
	named    map[string]string // the table of a provider that a chain names, by path
	parser   unstable.Parser
	counter  lineCounter
	lines    map[string]int
	tables   map[string]int  // number of [[…]] headers by path
	implied  map[string]bool // in lines only because a header below it was there
	problems []Problem
	unknown  []unknown
	broken   bool // so that decoding makes no sense
	again    bool // the last header was a duplicate
}

// unknown is a key that this build does not know.
type unknown struct {
	parent, name string
	Problem
}

// addUnknown adds the unknown keys to the problems of a config, as far as it was decoded.
// Where a chain's provider or store is not in this build, that is said of the chain, and
// what else belongs to it is not: its tables, and the key by which the chain names one.
func (d *document) addUnknown(c *Config) {
	tables, said := map[string]bool{}, map[string]bool{}
	for _, u := range d.unknown {
		tables[u.name] = tables[u.name] || u.parent == ""
	}
	lacking := map[string]bool{} // paths of chains, names of tables
	for i, ch := range c.Chains {
		names := d.kinds.lacks(ch)
		if len(names) == 0 {
			continue
		}
		lacking[at("chain", i)] = true
		for _, name := range names {
			lacking[name] = true
		}
		for _, u := range d.unknown {
			if u.parent == at("chain", i) && tables[u.name] {
				lacking[u.name] = true
			}
		}
	}
	for _, u := range d.unknown {
		foreign := lacking[u.name] && (u.parent == "" || lacking[u.parent])
		if !foreign && !(u.parent == "" && said[u.name]) {
			d.problems = append(d.problems, u.Problem)
		}
		said[u.name] = said[u.name] || u.parent == ""
	}
}

// scan walks over the file. The decoder alone would not do: it gives no lines
// for duplicate keys, takes keys in any case, and stops at the first wrong type.
func (k Kinds) scan(data []byte) *document {
	d := &document{kinds: k, keys: k.types(), named: map[string]string{}, lines: map[string]int{}, tables: map[string]int{}, implied: map[string]bool{}}
	d.parser.Reset(data)
	d.counter = lineCounter{data: data, line: 1}
	prefix := ""
	for d.parser.NextExpression() {
		switch e := d.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix = d.header(e)
		case unstable.KeyValue:
			d.keyValue(prefix, e)
		}
	}
	var syntax *unstable.ParserError
	if err := d.parser.Error(); errors.As(err, &syntax) {
		d.fail(d.line(d.parser.Range(syntax.Highlight)), "%s", syntax.Message)
	} else if err != nil {
		d.fail(0, "%v", err)
	}
	return d
}

// header notes a [table] or [[table]] and returns its path, or "?" if nothing
// may stand there.
func (d *document) header(e *unstable.Node) string {
	path, line := d.key("", e)
	d.again = false
	if path == "?" {
		return path
	}
	kind := d.keys[d.pattern(path)]
	if e.Kind == unstable.ArrayTable && kind == "tables" {
		if _, duplicate := d.lines[path]; duplicate && d.tables[path] == 0 {
			d.fail(line, "duplicate %s, first on line %d", path, d.lines[path])
		}
		element := path + "." + strconv.Itoa(d.tables[path])
		d.tables[path]++
		d.note(path, line)
		d.note(element, line)
		return element
	}
	if e.Kind == unstable.ArrayTable || kind != "a table" {
		d.fail(line, "%s: want %s", path, d.written(path, kind))
		return "?"
	}
	d.again = d.leaf(path, line)
	return path
}

// keyValue notes a key and what its value holds.
func (d *document) keyValue(prefix string, e *unstable.Node) {
	if path, line := d.key(prefix, e); path != "?" {
		d.leaf(path, line)
		d.value(path, line, e.Value())
	}
}

// value checks the type of a value, and walks on into arrays and tables.
func (d *document) value(path string, line int, v *unstable.Node) {
	want := d.keys[d.pattern(path)]
	ok := false
	switch v.Kind {
	case unstable.String:
		ok = want == "a string"
		if _, isTable := d.kinds.table(path[strings.LastIndexByte(path, '.')+1:]); isTable {
			d.named[path] = string(v.Data)
		}
		if want == "a duration" {
			_, err := time.ParseDuration(string(v.Data))
			ok = err == nil
		}
	case unstable.Integer:
		ok = want == "a number"
	case unstable.Bool:
		ok = want == "true or false"
	case unstable.Array:
		ok = want == "tables" || want == "strings"
	case unstable.InlineTable:
		ok = want == "a table"
	}
	if !ok {
		d.fail(line, "%s: want %s", path, d.written(path, want))
		return
	}
	children := v.Children()
	for i := 0; (v.Kind == unstable.Array || v.Kind == unstable.InlineTable) && children.Next(); {
		child := children.Node()
		switch {
		case child.Kind == unstable.Comment:
		case v.Kind == unstable.InlineTable:
			d.keyValue(path, child)
		default:
			element := path + "." + strconv.Itoa(i)
			elementLine := line
			if first := child.Child(); child.Kind == unstable.InlineTable && first != nil {
				keys := first.Key()
				keys.Next()
				elementLine = d.line(keys.Node().Raw)
			}
			d.note(element, elementLine)
			d.value(element, elementLine, child)
			i++
		}
	}
}

// key returns the path and line of the (dotted) key of e. For an unknown key,
// which it reports, the path is "?".
func (d *document) key(prefix string, e *unstable.Node) (path string, line int) {
	path = prefix
	for parts := e.Key(); parts.Next(); {
		line = d.line(parts.Node().Raw)
		if path == "?" {
			continue
		}
		parent, name := path, string(parts.Node().Data)
		path = strings.TrimPrefix(path+"."+name, ".")
		kind, isTable := d.kinds.table(parent)
		if isTable && !ValidTable(name) {
			d.fail(line, "%q is not the name of %s: 1 to 40 of A-Z a-z 0-9 _ -", name, kind.Noun)
			path = "?"
		} else if !isTable && (strings.Contains(name, ".") || name != "" && strings.Trim(name, "0123456789") == "") {
			// A quoted key may hold the point or be the number that makes a path.
			d.fail(line, "unknown key %s%s", path, d.suggestion(parent, name))
			path = "?"
		} else if _, known := d.keys[d.pattern(path)]; !known {
			d.unknown = append(d.unknown, unknown{parent, name, Problem{Line: line, Text: "unknown key " + path + d.suggestion(parent, name)}})
			path = "?"
		} else if !parts.IsLast() {
			if _, found := d.lines[path]; !found && e.Kind == unstable.Table {
				d.implied[path] = true
			}
			d.note(path, line)
			if n := d.tables[path]; n > 0 {
				path += "." + strconv.Itoa(n-1)
			}
		}
	}
	return path, line
}

// leaf notes a key that may stand in one place only, and reports whether it stood in
// another one. In a duplicate table that is not a mistake of its own.
func (d *document) leaf(path string, line int) (twice bool) {
	if first, found := d.lines[path]; found && !d.implied[path] {
		twice = true
		if !d.again {
			d.fail(line, "duplicate %s, first on line %d", path, first)
		}
	}
	delete(d.implied, path)
	d.note(path, line)
	return twice
}

func (d *document) note(path string, line int) {
	if _, found := d.lines[path]; !found {
		d.lines[path] = line
	}
}

func (d *document) fail(line int, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: line, Text: fmt.Sprintf(format, args...)})
	d.broken = true
}

func (d *document) line(r unstable.Range) int { return d.counter.at(int(r.Offset)) }

// lineCounter turns offsets, which mostly ascend, into lines. The parser's own Shape
// counts from the start of the file each time: quadratic in the number of keys.
type lineCounter struct {
	data         []byte
	offset, line int // how far it has counted
	looked       int // bytes looked at in all: a test holds it to the size of the file
}

// at returns the line, from 1, of the byte at offset.
func (c *lineCounter) at(offset int) int {
	if offset < c.offset {
		c.offset, c.line = 0, 1
	}
	c.line += bytes.Count(c.data[c.offset:offset], []byte("\n"))
	c.looked += offset - c.offset
	c.offset = offset
	return c.line
}

// decode fills c from a file in which every key is known and of its type.
func (d *document) decode(data []byte, c *Config) {
	d.decoded(toml.Unmarshal(data, c))
	d.decodeTables(data, c)
	for i := range c.Chains {
		ch := &c.Chains[i]
		own := d.kinds.of(*ch)
		ch.Table, ch.StoreTable = d.named[at("chain", i, own[0].Table)], d.named[at("chain", i, own[1].Table)]
	}
}

// decodeTables fills c with the tables of providers and stores.
func (d *document) decodeTables(data []byte, c *Config) {
	var file map[string]any
	for _, k := range d.kinds {
		if _, there := d.lines[k.Table]; !there || k.Table == "" {
			continue
		}
		if file == nil {
			d.decoded(toml.Unmarshal(data, &file))
		}
		if c.Tables == nil {
			c.Tables = map[string]map[string]Section{}
		}
		c.Tables[k.Table] = map[string]Section{}
		tables, _ := file[k.Table].(map[string]any)
		for name, values := range tables {
			values, _ := values.(map[string]any)
			c.Tables[k.Table][name] = k.Decode(values, func(key, wrong string) {
				d.fail(lineOf(d.lines, at(k.Table, name, key)), "%s %s: %s %s", k.Table, name, key, wrong)
			})
		}
	}
}

// decoded notes what is wrong with a file.
func (d *document) decoded(err error) {
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, _ := at.Position()
		d.fail(line, "%s", strings.TrimPrefix(at.Error(), "toml: "))
	} else if err != nil {
		d.fail(0, "%s", strings.TrimPrefix(err.Error(), "toml: "))
	}
}

// pattern writes the indices and the name of a provider's or store's table in path as *.
func (d *document) pattern(path string) string {
	words := strings.Split(path, ".")
	_, isTable := d.kinds.table(words[0])
	for i, w := range words {
		if w != "" && strings.Trim(w, "0123456789") == "" || i == 1 && isTable {
			words[i] = "*"
		}
	}
	return strings.Join(words, ".")
}

// written says how a value of the kind is written.
func (d *document) written(path, kind string) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch kind {
	case "a string":
		return `a string in quotes`
	case "strings":
		return fmt.Sprintf(`%s = ["…", …]`, name)
	case "a table":
		first, _, _ := strings.Cut(path, ".")
		if _, isTable := d.kinds.table(first); isTable {
			return "a table, as in [" + first + ".main]"
		}
	case "tables":
		if name == "chain" {
			return "[[chain]]"
		}
		return fmt.Sprintf(`%s = [ { name = "…", addr = "…" }, … ]`, name)
	case "a number":
		return "a whole number without quotes"
	case "a duration":
		return `a duration in quotes, as in "10s"`
	}
	return kind
}

// suggestion names the key that was probably meant.
func (d *document) suggestion(parent, name string) string {
	parent = d.pattern(parent)
	var known []string
	for _, key := range slices.Sorted(maps.Keys(d.keys)) {
		base, found := strings.CutPrefix(key, parent+".")
		if parent == "" {
			base, found = key, true
		}
		if found && !strings.ContainsAny(base, ".*") {
			known = append(known, base)
		}
	}
	if near := spelling.Near(strings.ToLower(name), known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
