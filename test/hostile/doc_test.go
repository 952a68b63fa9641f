package hostile

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// doc/threat-model.md names tests that exist, and at least one for each weakness of
// tmkms-light.
func TestThreatModelNamesTests(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "doc/threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (\d+) \| (.*) \| (.*) \|$`)
	next := 1
	for line := range strings.Lines(string(text)) {
		tests := testsIn(t, line)
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if m[1] != fmt.Sprint(next) {
			t.Errorf("weakness %s stands where %d should", m[1], next)
		}
		if tests == 0 {
			t.Errorf("weakness %d: no test", next)
		}
		next++
	}
	if next != 40 {
		t.Errorf("%d weaknesses, not 39", next-1)
	}
}

// testsIn returns how many tests a line names, and checks that they exist: in code
// marks, a Go file with names of tests after it, or a script.
func testsIn(t *testing.T, line string) (tests int) {
	for _, m := range regexp.MustCompile("`((?:internal|cmd|test)/[^`]*)`").FindAllStringSubmatch(line, -1) {
		words := strings.Fields(m[1])
		if info, err := os.Stat(filepath.Join(repository, words[0])); err == nil && info.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(repository, words[0]))
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.HasSuffix(words[0], "_test.go") && len(words) == 1 {
			t.Errorf("%s: which test?", words[0])
		}
		for _, name := range words[1:] {
			if !regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(`).Match(text) {
				t.Errorf("%s has no %s", words[0], name)
			}
		}
		if len(words) > 1 || strings.HasSuffix(words[0], ".txtar") {
			tests++
		}
	}
	return tests
}

// What a measured program may do stands in the measured policy: neither arguments
// nor environment reach it. The one of SGX reads where its host listens, and nothing else.
func TestTheProgramTakesNoArguments(t *testing.T) {
	var files []string
	for _, dir := range []string{"cmd/privyseal-enclave", "internal/enclave", "internal/enclave/engines", "internal/enclave/nitro", "internal/policy", "internal/awsjson", "internal/key/nitrokms", "internal/hostlink", "internal/secret",
		"cmd/privyseal-sgx", "internal/enclave/sgx", "internal/looplink", "internal/sgx/gramine", "internal/sgx/document", "internal/key/sgxseal"} {
		list, err := filepath.Glob(filepath.Join(repository, dir, "*.go"))
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		files = append(files, list...)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			if spec.Path.Value == `"flag"` {
				t.Errorf("%s has flags", file)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && isHostVariable(call) {
				return false
			}
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && slices.Contains([]string{"Args", "Getenv", "LookupEnv", "Environ"}, s.Sel.Name) {
					t.Errorf("%s uses os.%s", file, s.Sel.Name)
				}
			}
			return true
		})
	}
}

// isHostVariable reports whether a call is os.Getenv(looplink.Variable).
func isHostVariable(call *ast.CallExpr) bool {
	names := func(e ast.Expr, pkg, name string) bool {
		s, ok := e.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := s.X.(*ast.Ident)
		return ok && x.Name == pkg && s.Sel.Name == name
	}
	return len(call.Args) == 1 && names(call.Fun, "os", "Getenv") && names(call.Args[0], "looplink", "Variable")
}
