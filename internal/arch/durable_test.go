package arch

import (
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// makers are the files of our programs that make or rename files by themselves, and why.
// Everything else has internal/durable do it. Temporary files keep their name, and
// internal/filestore speaks to the system itself.
var makers = map[string]string{
	"internal/durable/durable.go":       "it is what the others use",
	"internal/durable/durable_other.go": "and this, where the system is not Linux",
	"internal/durable/lock.go":          "and this, for notes, which are locked",
	"internal/home/unfinished.go":       "a key that may be known is moved aside",
}

// making are the names of package os that do so.
var making = []string{"Create", "Link", "O_CREATE", "Rename", "WriteFile"}

// Files that are made as one are made durable in one place.
func TestFilesAreMadeInOnePlace(t *testing.T) {
	found := map[string]bool{}
	for _, s := range sources(t) {
		if strings.HasSuffix(path.Dir(s.name), "test") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(making, sel.Sel.Name) {
				return true
			}
			if of, ok := sel.X.(*ast.Ident); ok && of.Name == "os" {
				found[s.name] = true
				if makers[s.name] == "" {
					t.Errorf("%s has os.%s; internal/durable makes files", s.name, sel.Sel.Name)
				}
			}
			return true
		})
	}
	for _, name := range slices.Sorted(maps.Keys(makers)) {
		if !found[name] {
			t.Errorf("%s makes no files by itself, and need not be in makers", name)
		}
	}
}
