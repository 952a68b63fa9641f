package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// timeLimit bounds one package's tests.
const timeLimit = "5m"

// lab is where mutants are built and run.
type lab struct {
	ctx  context.Context
	root string // of the repository
	dir  string // of ours, removed at the end
	// times is how often the tests of each mutant run: all of them have to fail. With 0 a
	// mutant only has to compile.
	times int
	n     chan int
}

func newLab(ctx context.Context, times int) (*lab, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return nil, err
	}
	l := &lab{ctx: ctx, root: root, dir: dir, times: times, n: make(chan int, 1)}
	l.n <- 0
	return l, nil
}

func (l *lab) close() { os.RemoveAll(l.dir) }

// checkUnchanged runs the tests that are to fail on the code as it is: they have
// to pass there. `go test` remembers that they did.
func (l *lab) checkUnchanged(mutants []mutant) error {
	seen := map[[2]string]bool{}
	for _, m := range mutants {
		key := [2]string{m.pkg, m.run}
		if seen[key] {
			continue
		}
		seen[key] = true
		args := []string{"test", "-short"}
		if m.run != "" {
			args = append(args, "-run", m.run)
		}
		out, err := l.command(l.root, "go", append(args, m.pkg)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: the tests fail without a mutant: %w\n%s", m.where, err, out)
		}
		if bytes.Contains(out, []byte("no test")) {
			return fmt.Errorf("%s: there are no such tests: go %v\n%s", m.where, args, out)
		}
	}
	return nil
}

// outcome is what became of a mutant.
type outcome struct {
	killer string // the first test that failed
	err    error  // nil: it was killed
}

var errSurvived = errors.New("no test fails")

// wish is what is to become of a mutant.
func (l *lab) wish() string {
	if l.times == 0 {
		return "compiled"
	}
	return "killed"
}

func (o outcome) word(wish string) string {
	switch {
	case o.err == nil:
		return wish
	case errors.Is(o.err, errSurvived):
		return "SURVIVES"
	}
	return "ERROR"
}

func (o outcome) by() string {
	if o.killer == "" {
		return ""
	}
	return " (" + o.killer + ")"
}

// try builds the tests with the mutant in it, and runs them, until one run finds nothing.
func (l *lab) try(m mutant) outcome {
	n := <-l.n
	l.n <- n + 1
	dir := filepath.Join(l.dir, strconv.Itoa(n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return outcome{err: err}
	}
	defer os.RemoveAll(dir)
	overlay, err := l.overlay(m, dir)
	if err != nil {
		return outcome{err: err}
	}
	binary := filepath.Join(dir, "mutant.test")
	build := l.command(l.root, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, m.pkg)
	if l.times == 0 {
		build = l.command(l.root, "go", "build", "-overlay", overlay, "-o", os.DevNull, "./"+filepath.Dir(m.file))
	}
	if out, err := build.CombinedOutput(); err != nil {
		return outcome{err: fmt.Errorf("%s: it does not compile: %w\n%s", m.where, err, out)}
	}
	var killers []string
	for range l.times {
		o := l.test(m, binary, overlay)
		if o.err != nil {
			return o
		}
		killers = append(killers, o.killer)
	}
	slices.Sort(killers)
	return outcome{killer: strings.Join(slices.Compact(killers), ", ")}
}

// test runs the tests once.
func (l *lab) test(m mutant, binary, overlay string) outcome {
	args := []string{"-test.v", "-test.failfast", "-test.short", "-test.timeout=" + timeLimit}
	if m.run != "" {
		args = append(args, "-test.run="+m.run)
	}
	tests := l.command(filepath.Join(l.root, m.pkg), binary, args...)
	// For tests that build programs of ours.
	tests.Env = append(tests.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay)
	out, err := tests.CombinedOutput()
	if l.ctx.Err() != nil {
		return outcome{err: l.ctx.Err()}
	}
	o := judge(out, err)
	if o.err != nil {
		o.err = fmt.Errorf("%s: %w", m.where, o.err)
	}
	return o
}

// judge returns what a run of the tests says of the mutant in them. Only a test that
// fails kills: one that hangs depends on the machine, and where no test is named, a
// program did not compile or somebody else ended them.
func judge(out []byte, err error) outcome {
	killer := killerOf(out)
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		if names := skipped(out); len(names) > 0 {
			return outcome{err: fmt.Errorf("%w; these were skipped: %s", errSurvived, strings.Join(names, " "))}
		}
		return outcome{err: errSurvived}
	case !errors.As(err, &exit):
		return outcome{err: err}
	case killer == "":
		return outcome{err: fmt.Errorf("the tests end, and none has failed: %w\n%s", err, lastLines(out))}
	case killer == hang:
		return outcome{err: fmt.Errorf("the tests hang, which kills on some machines only: %w\n%s", err, lastLines(out))}
	}
	return outcome{killer: killer}
}

// overlay writes the mutated file and what puts it into the place of the real one.
func (l *lab) overlay(m mutant, dir string) (string, error) {
	text, err := m.read(os.DirFS(l.root))
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(l.root, m.file): mutated}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

const hang = "test timed out"

var (
	failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^panic: (` + hang + `)|^(panic|fatal error): `)
	skips  = regexp.MustCompile(`(?m)^\s*--- SKIP: (\S+)`)
)

// killerOf returns the test that failed: the innermost one of the first.
func killerOf(out []byte) (name string) {
	for _, match := range failed.FindAllSubmatch(out, 3) {
		for _, group := range match[1:] {
			if len(group) > len(name) && (name == "" || bytes.HasPrefix(group, []byte(name))) {
				name = string(group)
			}
		}
	}
	return name
}

func skipped(out []byte) (names []string) {
	for _, match := range skips.FindAllSubmatch(out, -1) {
		names = append(names, string(match[1]))
	}
	return names
}

// lastLines returns the end of what tests have printed.
func lastLines(out []byte) []byte {
	lines := bytes.SplitAfter(out, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], nil)
}

func (l *lab) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(l.ctx, name, args...)
	cmd.Dir = dir
	return cmd
}
