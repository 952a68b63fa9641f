package operator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// A random story: what comes next depends on the seed, and on the oracle for the
// heights that nodes ask for. It has no rule for what an operator should not do.

// choice is a step that may come next, and how often it does against the others.
type choice struct {
	weight int
	step   func(w *world, r *rand.Rand) string
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// anyHome returns a home, mostly one that exists.
func anyHome(w *world, r *rand.Rand) string {
	for range 4 {
		name := pick(r, append([]string{"a1"}, w.names...)...)
		if w.homes[name].exists() {
			return name
		}
	}
	return "a1"
}

func anyRunning(w *world, r *rand.Rand) string {
	for _, i := range r.Perm(len(w.names)) {
		if name := w.names[i]; w.homes[name].signer != nil {
			return name
		}
	}
	return anyHome(w, r)
}

func other(w *world, r *rand.Rand, name string) string {
	for {
		if o := pick(r, w.names...); o != name {
			return o
		}
	}
}

// nextHeight is that of an honest node, mostly; else of one that lags or lies.
func nextHeight(w *world, r *rand.Rand) int64 {
	top := w.oracle.top().height
	switch n := r.IntN(40); {
	case n < 2:
		return top + r.Int64N(1000) + 1
	case n < 3:
		return top + pick(r, int64(99_000), 900_000_000)
	case n < 8:
		return max(1, top-r.Int64N(5))
	}
	return top + 1
}

// anyWord is what an operator is ready to say besides --yes: nothing, mostly.
func anyWord(r *rand.Rand) string {
	return pick(r, "", "", "", " --export-unused", " --fresh-state")
}

// afterHeight is true, mostly: above all that was signed.
func afterHeight(w *world, r *rand.Rand) int64 {
	top := w.oracle.top().height
	if r.IntN(5) == 0 {
		return max(1, top-r.Int64N(10))
	}
	return top + r.Int64N(10)
}

var choices = []choice{
	{20, func(w *world, r *rand.Rand) string { return "start " + anyHome(w, r) }},
	{5, func(w *world, r *rand.Rand) string { return "stop " + anyRunning(w, r) }},
	{8, func(w *world, r *rand.Rand) string { return "kill " + anyRunning(w, r) }},
	{3, func(w *world, r *rand.Rand) string { return "reboot " + pick(r, "a", "b") }},
	{1, func(w *world, r *rand.Rand) string { return "wait" }},
	{3, func(w *world, r *rand.Rand) string { return "clock " + pick(r, "24h", "-24h", "1h", "-1m") }},
	{30, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("sign %s %d %s", anyRunning(w, r), nextHeight(w, r), pick(r, "x", "x", "y"))
	}},
	{6, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("ask %s %s %d %d %s", anyRunning(w, r), pick(r, "proposal", "prevote", "precommit"), nextHeight(w, r), r.IntN(3), pick(r, "x", "y", "nil"))
	}},
	{15, func(w *world, r *rand.Rand) string { return "fork " + anyRunning(w, r) }},

	{4, func(w *world, r *rand.Rand) string { return "export " + anyHome(w, r) + " " + pick(r, "f", "g") }},
	{1, func(w *world, r *rand.Rand) string { return "check " + anyHome(w, r) }},
	{6, func(w *world, r *rand.Rand) string { return "save " + anyHome(w, r) + " " + pick(r, "k", "l") }},
	{1, func(w *world, r *rand.Rand) string { h := anyHome(w, r); return "move " + h + " " + other(w, r, h) }},
	{1, func(w *world, r *rand.Rand) string { return "chown " + anyHome(w, r) }},

	{5, func(w *world, r *rand.Rand) string { return "adopt " + anyHome(w, r) + anyWord(r) }},
	{6, func(w *world, r *rand.Rand) string {
		return "import " + anyHome(w, r) + " " + pick(r, "f", "g", "out") + anyWord(r)
	}},
	{2, func(w *world, r *rand.Rand) string { return "make " + anyHome(w, r) + " fresh" }},
	{3, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("make %s after %d", anyHome(w, r), afterHeight(w, r))
	}},
	{2, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("raise %s %d", anyHome(w, r), afterHeight(w, r))
	}},
	{1, func(w *world, r *rand.Rand) string { return "install " + pick(r, "a2", "b1") + " fresh" }},
	{2, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("install %s after %d", pick(r, "a2", "b1"), afterHeight(w, r))
	}},
	{3, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("install %s state %s", pick(r, "a2", "b1"), pick(r, "f", "g")) + anyWord(r)
	}},
	{2, func(w *world, r *rand.Rand) string { return "migrate " + pick(r, "a2", "b1") + anyWord(r) }},
	{2, func(w *world, r *rand.Rand) string { return "out " + anyHome(w, r) }},
	{3, func(w *world, r *rand.Rand) string { return fmt.Sprintf("node %d z", w.oracle.top().height+1) }},
	{8, func(w *world, r *rand.Rand) string { return fmt.Sprintf("obey %d", r.IntN(4)) }},

	{12, func(w *world, r *rand.Rand) string {
		what := pick(r, "file", "file", "folder", "home")
		ways := waysOfFolder
		if what == "file" {
			ways = waysOfFile
		}
		return fmt.Sprintf("put %s %s %s %s", anyHome(w, r), pick(r, "k", "l"), what, pick(r, slices.Sorted(maps.Keys(ways))...))
	}},
	{4, func(w *world, r *rand.Rand) string { h := anyHome(w, r); return "copy " + h + " " + other(w, r, h) }},
	{4, func(w *world, r *rand.Rand) string {
		if w.homes["a1"].volume {
			return "clone a1 a2"
		}
		return "start " + anyHome(w, r)
	}},
	{2, func(w *world, r *rand.Rand) string { return "remove " + anyHome(w, r) }},
	{2, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("flip %s %d %d", anyHome(w, r), pick(r, 0, 65536)+r.IntN(1024), r.IntN(8))
	}},
	{1, func(w *world, r *rand.Rand) string { return "touch " + pick(r, "a1", "a2", "b1", filePVName) }},
}

// next returns a random step.
func next(w *world, r *rand.Rand) string {
	choices := choices
	if w.shared != nil {
		choices = sharedChoices
		if w.shared.own != nil {
			choices = slices.Concat(choices, restoreChoices)
		}
	}
	sum := 0
	for _, c := range choices {
		sum += c.weight
	}
	n := r.IntN(sum)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.step(w, r)
		}
	}
	panic("the weights do not add up")
}

// first returns how a random story begins.
func first(w *world, r *rand.Rand) []string {
	if w.shared != nil {
		return firstShared(r)
	}
	begin := pick(r, "begin imported a1", "begin imported a1", "begin new a1", fmt.Sprintf("begin migrated a1 %d", 1+r.IntN(20)))
	if canMount() && r.IntN(40) == 0 {
		return []string{"volume a1", begin, "start a1"}
	}
	return []string{begin, "start a1"}
}

// last returns how a random story ends: what has to sign does, and each home gets
// its chance to sign twice.
func last(w *world) (lines []string) {
	for _, name := range w.names {
		lines = append(lines, "must "+name, "start "+name, "fork "+name, "kill "+name)
		if w.shared != nil {
			lines = append(lines, "wayon "+name)
		}
	}
	return lines
}
