package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What `make race` leaves out because it does one thing after the other starts no
// goroutine, in its tests either.
func TestWhatRaceLeavesOut(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^SEQUENTIAL := (.+)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile does not say what it leaves out")
	}
	for _, pkg := range strings.Fields(string(line[1])) {
		files, err := filepath.Glob(filepath.Join("../..", pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no files: %v", pkg, err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if why := concurrent(f); why != "" {
				t.Errorf("%s has %s: race has to run the tests of %s", name, why, pkg)
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	for text, want := range map[string]string{
		"func f() {}":                           "",
		"func f() { go f() }":                   "a go statement",
		"func f(c chan int) {}":                 "a channel",
		"func f(t *testing.T) { t.Parallel() }": "a call of Parallel",
		"func f() { g.Go(f) }":                  "a call of Go",
		"func f() { time.AfterFunc(1, f) }":     "a call of AfterFunc",
		`import "sync/atomic"`:                  `an import of "sync/atomic"`,
		`import "net/http/httptest"`:            `an import of "net/http/httptest"`,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if why := concurrent(f); why != want {
			t.Errorf("%s: %q, want %q", text, why, want)
		}
	}
}

// concurrent returns what of a file may run beside something else, "" if there is
// nothing.
func concurrent(f *ast.File) (why string) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			why = "a go statement"
		case *ast.ChanType:
			why = "a channel"
		case *ast.SelectorExpr:
			switch n.Sel.Name {
			case "Go", "Parallel", "AfterFunc", "RunParallel":
				why = "a call of " + n.Sel.Name
			}
		case *ast.ImportSpec:
			switch p := n.Path.Value; p {
			case `"net"`, `"net/http"`, `"net/http/httptest"`, `"sync"`, `"sync/atomic"`:
				why = "an import of " + p
			}
		}
		return true
	})
	return why
}
