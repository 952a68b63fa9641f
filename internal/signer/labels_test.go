package signer_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/signer"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// A reason or a fault that is in no list would have no series until it is first
// counted, and an alert on its increase would miss that first time.
func TestLabelsAreAllListed(t *testing.T) {
	var faults []string
	for _, f := range signer.Faults() {
		faults = append(faults, string(f))
	}
	for _, tt := range []struct {
		typ    string
		listed []string
		least  int
		dirs   []string
	}{
		{"Reason", signer.Reasons(), 12, []string{"../watermark", "."}},
		{"Fault", faults, 3, []string{"."}},
	} {
		found := 0
		for _, dir := range tt.dirs {
			for _, value := range constants(t, dir, tt.typ) {
				found++
				is := func(label string) bool {
					return label == value || strings.HasPrefix(label, value) && (strings.HasSuffix(label, "_same_node") || strings.HasSuffix(label, "_other_node"))
				}
				if !slices.ContainsFunc(tt.listed, is) {
					t.Errorf("%s %q of %s is in no list of labels.go", tt.typ, value, dir)
				}
			}
		}
		if found < tt.least {
			t.Errorf("found %d constants of type %s: does this test still see them?", found, tt.typ)
		}
	}
}

// constants returns the values of a folder's constants of a type, whatever the
// package that names the type.
func constants(t *testing.T, dir, typ string) (values []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !isNamed(spec.Type, typ) {
				return true
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					value, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					values = append(values, value)
				}
			}
			return true
		})
	}
	return values
}

func isNamed(e ast.Expr, name string) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == name
	case *ast.SelectorExpr:
		return e.Sel.Name == name
	}
	return false
}

// TestFaults: what failed is named in a word, and every failure of the store counts,
// also one that a second attempt made good.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name        string
		store       []storetest.Outcome
		key         string
		late, held  bool
		want        signer.Fault
		storeErrors int
		refused     bool
	}{
		{name: "nothing"},
		{name: "a store that fails once", store: []storetest.Outcome{storetest.Before}, storeErrors: 1},
		{name: "a store that fails on", store: slices.Repeat([]storetest.Outcome{storetest.Before}, 100), want: signer.StoreFault, storeErrors: 40},
		{name: "a key that fails", key: "fails", want: signer.KeyFault},
		{name: "a key that lies", key: "lies", want: signer.KeyFault},
		{name: "too late", late: true, want: signer.QueueFault},
		{name: "held by a witness", held: true, want: signer.HeldFault},
		{name: "a refusal is none", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e signer.Event
				fake, key := storetest.NewFake(readMark(t, []string{"10/0/precommit", "A", "t1"})), newTestKey()
				c := config(key)
				c.Store, c.Observe = fake, func(event signer.Event) { e = event }
				if tt.held {
					c.Bounds = func() watermark.Bounds { return watermark.Bounds{Hold: "it looks on"} }
				}
				s := newSigner(t, c)
				fake.Script(tt.store...)
				key.setScript(strings.Fields(tt.key))
				ctx, cancel := context.WithTimeout(t.Context(), answerTime-time.Millisecond)
				defer cancel()
				if tt.late {
					cancel()
				}
				req := say(t, "11/0/prevote A t2")
				if tt.refused {
					req.Height = 9
				}
				s.Handle(ctx, "n1", &req)
				if got := signer.FaultOf(e.Err); got != tt.want || e.StoreErrors != tt.storeErrors || (e.Reason != "") != tt.refused {
					t.Errorf("fault %q, %d errors of the store, refused for %q: %v", got, e.StoreErrors, e.Reason, e.Err)
				}
			})
		})
	}
}
