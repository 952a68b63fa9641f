package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one file of ours that a program may link.
type source struct {
	name string // from the root of the repository
	fset *token.FileSet
	file *ast.File
}

// sources parses all files but tests.
func sources(t *testing.T) (list []source) {
	t.Helper()
	fset := token.NewFileSet()
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains(outside, name) || strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(fset, filepath.Join("../..", name), nil, parser.SkipObjectResolution|parser.ParseComments)
		list = append(list, source{name, fset, f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// lines returns how many lines stand between the braces of a function.
func (s source) lines(f *ast.FuncDecl) int {
	if f.Body == nil {
		return 0
	}
	return max(0, s.fset.Position(f.Body.Rbrace).Line-s.fset.Position(f.Body.Lbrace).Line-1)
}

// house is the one file that names all providers.
const house = "cmd/privyseal/house.go"

// providers returns the names of the rooms of providers and stores, which are those of
// the providers and stores.
func providers(list []source) (names []string) {
	for _, s := range list {
		rest, isRoom := strings.CutPrefix(s.name, "internal/ops/")
		name, _, _ := strings.Cut(rest, "/")
		if isRoom && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// text returns the value of a string literal, "" for anything else.
func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, _ := strconv.Unquote(lit.Value)
	return s
}

// comparisons returns where a file compares something with a provider's name, or has
// one to compare with.
func comparisons(s source, names []string) (found []string) {
	if s.name == house || strings.HasPrefix(s.name, "internal/migrate/") { // which reads the words of other signers
		return nil
	}
	note := func(e ast.Expr) {
		name := text(e)
		own := strings.HasPrefix(s.name, "internal/ops/"+name+"/") || strings.HasPrefix(s.name, "internal/key/"+name+"/")
		if name != "" && slices.Contains(names, name) && !own {
			found = append(found, s.name+":"+strconv.Itoa(s.fset.Position(e.Pos()).Line))
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			note(n.X)
			note(n.Y)
		case *ast.CaseClause:
			for _, e := range n.List {
				note(e)
			}
		case *ast.ValueSpec:
			for _, e := range n.Values {
				note(e)
			}
		}
		return true
	})
	return found
}

// TestCounts prints what the house is measured by, and fails where it grows.
func TestCounts(t *testing.T) {
	list := sources(t)
	names := providers(list)
	if len(names) < 2 {
		t.Fatalf("the rooms of providers are %q", names)
	}
	var compared []string
	longest, where := 0, ""
	var lengths []int
	packages := map[string]int{} // lines, without those of the packages below
	for _, s := range list {
		compared = append(compared, comparisons(s, names)...)
		packages[path.Dir(s.name)] += s.fset.File(s.file.Pos()).LineCount()
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lengths = append(lengths, s.lines(f))
			if s.lines(f) > longest {
				longest, where = s.lines(f), s.name+", "+f.Name.Name
			}
		}
	}
	slices.Sort(lengths)
	largest := ""
	for pkg, n := range packages {
		if !isForTests(pkg) && n > packages[largest] {
			largest = pkg
		}
	}
	unused := unusedNames(list)
	for _, c := range []struct {
		what      string
		got, most int
		where     []string
	}{
		{"comparisons of a provider's or store's name outside its room", len(compared), 0, compared},
		{"lines of cmd/privyseal", packages["cmd/privyseal"], 150, nil},
		{"lines of the largest package", packages[largest], 2700, []string{largest}},
		{"lines of the longest function", longest, 61, []string{where}},
		{"lines of a function that is longer than nine of ten", lengths[len(lengths)*9/10], 30, nil},
		{"exported names that nobody uses", len(unused), 0, unused},
	} {
		t.Logf("%5d %s %q", c.got, c.what, c.where)
		if c.got > c.most {
			t.Errorf("%d %s, and no more than %d are allowed: %q", c.got, c.what, c.most, c.where)
		}
	}
}

// isForTests reports whether a package is one that only tests link.
func isForTests(pkg string) bool { return strings.HasSuffix(pkg, "test") }

// unusedNames returns exported functions, types, variables and constants below internal
// whose name stands nowhere but where they are declared. Test packages are left out: what
// they export is for tests.
func unusedNames(list []source) (unused []string) {
	uses := map[string]int{}
	type declared struct{ name, where string }
	var names []declared
	for _, s := range list {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				uses[id.Name]++
			}
			return true
		})
		if !strings.HasPrefix(s.name, "internal/") || isForTests(path.Dir(s.name)) {
			continue
		}
		for _, d := range s.file.Decls {
			for _, id := range declaredBy(d) {
				if id.IsExported() {
					names = append(names, declared{id.Name, path.Dir(s.name) + "." + id.Name})
				}
			}
		}
	}
	for _, n := range names {
		if uses[n.name] == 1 {
			unused = append(unused, n.where)
		}
	}
	return unused
}

func declaredBy(d ast.Decl) (ids []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			ids = append(ids, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				ids = append(ids, spec.Name)
			case *ast.ValueSpec:
				ids = append(ids, spec.Names...)
			}
		}
	}
	return ids
}

// TestRooms checks the map of imports against the rules of the house.
func TestRooms(t *testing.T) {
	for pkg, allowed := range mayImport {
		for _, imp := range strings.Fields(allowed) {
			if why := forbidden(pkg, imp); why != "" {
				t.Errorf("mayImport lets %s import %s: %s", pkg, imp, why)
			}
		}
	}
	for _, c := range [][2]string{
		{"internal/ops/a", "internal/ops/b"}, {"internal/ops/a/x", "internal/ops/b"}, {"internal/command", "internal/ops/a"},
		{"internal/daemon", "internal/ops/a"}, {"internal/provider", "internal/ops/a"}, {"internal/config", "internal/command"},
		{"cmd/privyseal", "internal/command/a"}, {"internal/home", "internal/command/a"},
	} {
		if forbidden(c[0], c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
	for _, c := range [][2]string{{"internal/ops/a", "internal/ops/a/x"}, {"cmd/privyseal", "internal/ops/a"}, {"internal/ops/a", "internal/provider"},
		{"internal/command", "internal/command/a"}, {"internal/command/a", "internal/command/b"}} {
		if why := forbidden(c[0], c[1]); why != "" {
			t.Errorf("%s may not import %s: %s", c[0], c[1], why)
		}
	}
}

// forbidden says why a package may never import another one, whatever the map says.
func forbidden(pkg, imp string) string {
	room, isRoom := strings.CutPrefix(pkg, "internal/ops/")
	other, isOps := strings.CutPrefix(imp, "internal/ops/")
	room, _, _ = strings.Cut(room, "/")
	other, _, _ = strings.Cut(other, "/")
	switch {
	case isOps && isRoom && room != other:
		return "no room of a provider or store knows another"
	case isOps && !isRoom && pkg != "cmd/privyseal" && pkg != "aiakos":
		return "only the tables of " + house + " and aiakos/house.go name rooms of providers and stores"
	case imp == "internal/command" && pkg != "cmd/privyseal":
		return "nothing stands above the commands but the program"
	case strings.HasPrefix(imp, "internal/command/") && pkg != "internal/command" && !strings.HasPrefix(pkg, "internal/command/"):
		return "the rooms of the commands are for the commands"
	}
	return ""
}
