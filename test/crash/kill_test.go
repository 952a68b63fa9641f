//go:build linux

package crash

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"privyseal/internal/filestore"
)

// sweep runs a role again and again, killed in one call after the other, from
// the first that touches the state to the last, and has each end judged. next
// returns the path of the next run; the runs must make the same calls.
func sweep(t *testing.T, role string, writes int, next func() string, judge func(path string, r run)) {
	t.Helper()
	killed := map[string]bool{}
	// The Go runtime may make a call more or less in between, so that a kill
	// misses its call: then the next round looks again for what is left.
	for range 6 {
		path := next()
		whole := traced(t, role, path, writes)
		judge(path, whole)
		var names []string
		left := 0
		for _, p := range places(whole) {
			names = append(names, p.call)
			if killed[p.call] {
				continue
			}
			left++
			path := next()
			r := traced(t, role, path, writes, p.injection)
			judge(path, r)
			if ps := places(r); len(ps) > 0 && r.calls[len(r.calls)-1].killed {
				killed[ps[len(ps)-1].call] = true
			}
		}
		if left == 0 && len(names) > 0 {
			t.Logf("killed in each of %d calls: %s", len(names), strings.Join(names, " "))
			return
		}
	}
	t.Fatalf("six rounds have not met every call; met are %v", killed)
}

// place is a call in a run.
type place struct {
	call      string // its name, and how often it was made since the state was first touched
	injection string // that kills the process in it
}

// places returns those from the first call that touches the state.
func places(r run) (ps []place) {
	all, since := map[string]int{}, map[string]int{}
	for i, c := range r.calls {
		all[c.name]++ // strace counts each name for itself
		if i >= r.first {
			since[c.name]++
			ps = append(ps, place{fmt.Sprint(c.name, since[c.name]), fmt.Sprintf("%s:signal=SIGKILL:when=%d", c.name, all[c.name])})
		}
	}
	return ps
}

// A signer that is killed in any of its calls has forgotten nothing that it
// released, and the next one opens the state and goes on.
func TestKillInEveryCall(t *testing.T) {
	path := newState(t)
	var before known
	sweep(t, "sign", 2, func() string { return path }, func(path string, r run) {
		if k := lastKnown(r.output); k.height > 0 {
			before = k
		}
		now, err := load(path)
		if err != nil {
			t.Fatalf("after %+v was released: %v", before, err)
		}
		if before.forgets(now) {
			t.Fatalf("%+v was released, the state is at %+v", before, now)
		}
		before = now
	})
	if before.height < 2 {
		t.Errorf("the runs have left height %d", before.height)
	}
}

// An init that is killed in any of its calls leaves a whole state or none, a
// whole one if it has said so, and can be run again.
func TestKillCreateInEveryCall(t *testing.T) {
	dir, n := diskDir(t), 0
	next := func() string { n++; return filepath.Join(dir, fmt.Sprint(n), "keys", "state") }
	sweep(t, "create", 0, next, func(path string, r run) {
		created := string(r.output) == "created\n"
		_, err := load(path)
		if errors.Is(err, filestore.ErrMissing) && !created {
			again := traced(t, "create", path, 0)
			if string(again.output) != "created\n" {
				t.Fatalf("after a kill: %s", again.output)
			}
			_, err = load(path)
		}
		if err != nil {
			t.Fatalf("created %t: %v", created, err)
		}
	})
}
