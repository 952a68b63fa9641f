package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestListsFollowTheCode: every mutant still has its place in the code.
func TestListsFollowTheCode(t *testing.T) {
	mutants, err := readLists(".")
	if err != nil {
		t.Fatal(err)
	}
	root := os.DirFS("../..")
	for _, m := range mutants {
		if _, err := m.read(root); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d mutants", len(mutants))
}

// TestEachHasItsTurn: all turns run every mutant once, and none more than a share.
func TestEachHasItsTurn(t *testing.T) {
	for _, n := range []int{1, shareSize, shareSize + 1, 10*shareSize + 7} {
		all := make([]mutant, n)
		for i := range all {
			all[i].name = fmt.Sprint(i)
		}
		seen := map[string]int{}
		_, turns := turnOf(t.Context(), n)
		for turn := range turns {
			some := shareOf(all, turn, turns)
			if len(some) > shareSize {
				t.Errorf("of %d mutants turn %d has %d", n, turn, len(some))
			}
			for _, m := range some {
				seen[m.name]++
			}
		}
		for _, m := range all {
			if seen[m.name] != 1 {
				t.Errorf("of %d, mutant %s runs %d times", n, m.name, seen[m.name])
			}
		}
	}
}

const code = "if a {\n\t\tb()\n\t}\n\tc()\n\tc()\n"

func TestApply(t *testing.T) {
	for _, c := range []struct{ name, list, want, wrong string }{
		{name: "within a line", list: "- if a\n+ if !a", want: "if !a {\n\t\tb()\n\t}\n\tc()\n\tc()\n"},
		{name: "lines of any indentation", list: "- if a {\n- b()\n+ if a {", want: "if a {\n\t}\n\tc()\n\tc()\n"},
		{name: "a line is left out", list: "- b()", want: "if a {\n\t\t\n\t}\n\tc()\n\tc()\n"},
		{name: "it is gone", list: "- d()\n+ e()", wrong: "is no longer there"},
		{name: "it is ambiguous", list: "- c()\n+ e()", wrong: "is there more than once"},
		{name: "it changes nothing", list: "- b()\n+ b()", wrong: "nothing is changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := parseList("core.txt", "mutant it breaks\nfile internal/x/x.go\n"+c.list+"\n")
			if err != nil {
				t.Fatal(err)
			}
			got, err := list[0].apply(code)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), "core.txt:1: it breaks") {
					t.Errorf("%q, %v, want %q", got, err, c.wrong)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	got, err := parseList("x.txt", `# A comment.

mutant  a is not looked at
file    internal/x/x.go
test    ./internal/y TestA|TestB
- if a {
+ if true {

mutant  b
file    internal/x/x.go
- b
`)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	want := mutant{name: "a is not looked at", file: "internal/x/x.go", pkg: "./internal/y", run: "TestA|TestB", from: "if a {", to: "if true {", where: "x.txt:3"}
	if got[0] != want {
		t.Errorf("%+v, want %+v", got[0], want)
	}
	if got[1].pkg != "./internal/x" || got[1].run != "" {
		t.Errorf("%+v, want the tests of its package", got[1])
	}
	for _, bad := range []string{"mutant a\nfile b\n", "mutant a\n- b\n", "file a\n- b\n", "mutant a\nfile b\n-b\n", "run x\n"} {
		if got, err := parseList("x.txt", bad); err == nil || !strings.HasPrefix(err.Error(), "x.txt:") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func TestKillerOf(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0.1s)\n        x.go:1: no\n--- FAIL: TestC (0s)\n": "TestA/b",
		"panic: test timed out after 5m0s\nrunning tests:\n":                                               "test timed out",
		"panic: oh\n": "panic",
		"ok\n":        "",
	} {
		if got := killerOf([]byte(out)); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

// TestJudge: only a test that fails kills a mutant.
func TestJudge(t *testing.T) {
	exit := exec.Command("go", "no-such-command").Run()
	for _, c := range []struct {
		name, out string
		err       error
		word, say string
	}{
		{"a test fails", "--- FAIL: TestA (0.1s)\n", exit, "killed", ""},
		{"it panics", "panic: oh\n", exit, "killed", ""},
		{"none fails", "--- PASS: TestA (0.1s)\n", nil, "SURVIVES", "no test fails"},
		{"some were left out", "--- SKIP: TestB (0.0s)\n--- PASS: TestA (0.1s)\n", nil, "SURVIVES", "skipped: TestB"},
		{"what the tests need does not compile", "x.go:1: undefined: y\n", exit, "ERROR", "undefined: y"},
		{"they hang", "panic: test timed out after 5m0s\n", exit, "ERROR", "hang"},
		{"they do not start", "", os.ErrPermission, "ERROR", "permission denied"},
	} {
		o := judge([]byte(c.out), c.err)
		if o.word("killed") != c.word || (o.err == nil) != (c.say == "") || o.err != nil && !strings.Contains(o.err.Error(), c.say) {
			t.Errorf("%s: %s, %v; want %s, %q", c.name, o.word("killed"), o.err, c.word, c.say)
		}
	}
}
