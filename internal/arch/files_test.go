package arch

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// files is the graph between the files of one package. A file uses another one if it
// names something that is declared there: a constant, variable, type or function, a field
// or method. So a method's file uses the file of its type, and a method may stand in
// another file as long as the type's file does not call it.
type files map[string]map[string][]string // from, to: the names

func (g files) add(from, to, name string) {
	if from == to {
		return
	}
	if g[from] == nil {
		g[from] = map[string][]string{}
	}
	if !slices.Contains(g[from][to], name) {
		g[from][to] = append(g[from][to], name)
	}
}

// circles returns the sets of files that all reach each other, by way of each other.
func (g files) circles() (list [][]string) {
	reach := map[string]map[string]bool{}
	for from := range g {
		reach[from] = map[string]bool{}
		todo := []string{from}
		for len(todo) > 0 {
			next := todo[0]
			todo = todo[1:]
			for to := range g[next] {
				if !reach[from][to] {
					reach[from][to] = true
					todo = append(todo, to)
				}
			}
		}
	}
	seen := map[string]bool{}
	for _, a := range slices.Sorted(maps.Keys(g)) {
		if seen[a] || !reach[a][a] {
			continue
		}
		var circle []string
		for _, b := range slices.Sorted(maps.Keys(reach[a])) {
			if reach[b][a] {
				circle = append(circle, b)
				seen[b] = true
			}
		}
		list = append(list, circle)
	}
	return list
}

// text is the graph between some files, a line for each arrow.
func (g files) text(circle []string) string {
	var b strings.Builder
	for _, from := range circle {
		for _, to := range circle {
			if names := g[from][to]; names != nil {
				slices.Sort(names)
				fmt.Fprintf(&b, "\n\t%s uses %s: %s", from, to, strings.Join(names, " "))
			}
		}
	}
	return b.String()
}

// systems are those that programs are built for. The first is ours: its packages have to
// be without a mistake. The others find the same libraries, and mistakes do not matter.
var systems = [][2]string{{runtime.GOOS, runtime.GOARCH}, {"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

// rooms are our packages with their types.
type rooms struct {
	t       *testing.T
	fset    *token.FileSet
	sources map[string]map[string]*ast.File // package, name of the file
	checked map[string]*types.Package
	graphs  map[string]files
	others  types.Importer
}

func newRooms(t *testing.T) *rooms {
	r := &rooms{t: t, sources: map[string]map[string]*ast.File{}, checked: map[string]*types.Package{}, graphs: map[string]files{}}
	for _, s := range sources(t) {
		r.fset = s.fset
		dir := path.Dir(s.name)
		if r.sources[dir] == nil {
			r.sources[dir] = map[string]*ast.File{}
		}
		r.sources[dir][path.Base(s.name)] = s.file
	}
	r.others = importer.ForCompiler(r.fset, "gc", r.exports())
	return r
}

// exports returns how to open what the compiler wrote about the packages that are not ours.
func (r *rooms) exports() importer.Lookup {
	names := map[string]bool{}
	for _, pkg := range r.sources {
		for _, f := range pkg {
			for _, spec := range f.Imports {
				if name := text(spec.Path); !strings.HasPrefix(name, module+"/") {
					names[name] = true
				}
			}
		}
	}
	list := exec.Command("go", slices.Concat([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "--"}, slices.Sorted(maps.Keys(names)))...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		r.t.Fatalf("%v: %v", list.Args[:3], err)
	}
	where := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		where[name] = file
	}
	return func(name string) (io.ReadCloser, error) { return os.Open(where[name]) }
}

// Import finds the types of a package. go/types calls it for each that is imported.
func (r *rooms) Import(name string) (*types.Package, error) {
	dir, isOurs := strings.CutPrefix(name, module+"/")
	if !isOurs {
		return r.others.Import(name)
	}
	if p := r.checked[dir]; p != nil {
		return p, nil
	}
	r.graphs[dir] = files{}
	p, err := r.check(dir, r.built(dir, systems[0]))
	if err != nil {
		return nil, err
	}
	for _, system := range systems[1:] {
		r.check(dir, r.built(dir, system))
	}
	r.checked[dir] = p
	return p, nil
}

// built returns the files of a package that a system builds.
func (r *rooms) built(dir string, system [2]string) (names []string) {
	c := build.Default
	c.GOOS, c.GOARCH = system[0], system[1]
	for _, name := range slices.Sorted(maps.Keys(r.sources[dir])) {
		is, err := c.MatchFile(filepath.Join("../..", dir), name)
		if err != nil {
			r.t.Fatal(err)
		}
		if is {
			names = append(names, name)
		}
	}
	return names
}

// check finds the types of some files of a package, notes who uses whom, and returns the
// first mistake.
func (r *rooms) check(dir string, names []string) (p *types.Package, mistake error) {
	var parsed []*ast.File
	for _, name := range names {
		parsed = append(parsed, r.sources[dir][name])
	}
	config := types.Config{Importer: r, Error: func(err error) {
		if mistake == nil {
			mistake = err
		}
	}}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	p, _ = config.Check(module+"/"+dir, r.fset, parsed, info)
	for id, used := range info.Uses {
		if used.Pkg() == p {
			r.graphs[dir].add(r.file(id), r.file(used), used.Name())
		}
	}
	return p, mistake
}

func (r *rooms) file(at interface{ Pos() token.Pos }) string {
	return filepath.Base(r.fset.Position(at.Pos()).Filename)
}

// TestFilesHaveNoCircle: also between the files of a package, arrows point down. What
// makes a circle moves to the file where it belongs; two files that are one thing are
// joined; an interface that is only there to turn an arrow round does not help a reader.
func TestFilesHaveNoCircle(t *testing.T) {
	r := newRooms(t)
	n := 0
	for _, dir := range slices.Sorted(maps.Keys(r.sources)) {
		if _, err := r.Import(module + "/" + dir); err != nil {
			t.Fatal(err)
		}
		n += len(r.sources[dir])
		for _, circle := range r.graphs[dir].circles() {
			t.Errorf("%s: a circle of %d files, of %d:%s", dir, len(circle), len(r.sources[dir]), r.graphs[dir].text(circle))
		}
	}
	t.Logf("%d files of %d packages without a circle", n, len(r.sources))
}

// TestFilesBite shows what makes a circle, and what does not.
func TestFilesBite(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"functions", "func f() { g() }", "func g() { f() }", "f g"},
		{"a type with a method above it", "type T struct{}", "func (T) m() {}; func f() { T{}.m() }", ""},
		{"a type that needs its method", "type T struct{}; func f() { T{}.m() }", "func (T) m() {}", "T m"},
		{"a method of a generic type", "type T[E any] struct{}; func f() { T[int]{}.m() }", "func (T[E]) m() {}", "T m"},
		{"a method without a call", "type T struct{}; var f = T.m", "func (T) m() {}", "T m"},
		{"an interface", "type T interface{ m() }; func f() {}", "func g(t T) { t.m(); f() }", ""},
		{"a method of an interface", "type T interface{ m() }; func f() T { return h() }", "func g() { f().m() }; func h() T { return nil }", "T f h m"},
		{"constants and variables", "const a = 1; var b = d", "const c = a; var d = 2", "a d"},
		{"names of their own", "func f() { g := 1; _ = g }", "func g() { f() }", ""},
		{"fields", "type T struct{ x int }; var t = &T{}; var a = b", "var b = t.x", "b t x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &rooms{t: t, fset: token.NewFileSet(), sources: map[string]map[string]*ast.File{"x": {}}, graphs: map[string]files{"x": {}}}
			for name, text := range map[string]string{"a.go": c.a, "b.go": c.b} {
				f, err := parser.ParseFile(r.fset, name, "package x; "+text, parser.SkipObjectResolution)
				if err != nil {
					t.Fatal(err)
				}
				r.sources["x"][name] = f
			}
			if _, err := r.check("x", []string{"a.go", "b.go"}); err != nil {
				t.Fatal(err)
			}
			g := r.graphs["x"]
			got := ""
			if circles := g.circles(); len(circles) > 0 {
				names := slices.Concat(g["a.go"]["b.go"], g["b.go"]["a.go"])
				slices.Sort(names)
				got = strings.Join(names, " ")
			}
			if got != c.want {
				t.Errorf("the circle is %q, want %q", got, c.want)
			}
		})
	}
}
