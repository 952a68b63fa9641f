package operator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// Random stories of hosts that share a state in a database; "etcd" in a step is whichever that is. Next to nothing is said of files that
// testdata and the stories of files do not say already: files of homes that share are what
// their hosts have seen.

var sharedChoices = []choice{
	{18, func(w *world, r *rand.Rand) string { return "start " + anyHome(w, r) }},
	{3, func(w *world, r *rand.Rand) string { return "stop " + anyRunning(w, r) }},
	{8, func(w *world, r *rand.Rand) string { return "kill " + anyRunning(w, r) }},
	{3, func(w *world, r *rand.Rand) string { return "reboot " + pick(r, "a", "b", "c") }},
	{24, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("sign %s %d %s", anyRunning(w, r), nextHeight(w, r), pick(r, "x", "x", "y"))
	}},
	{6, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("ask %s %s %d %d %s", anyRunning(w, r), pick(r, "proposal", "prevote", "precommit"), nextHeight(w, r), r.IntN(3), pick(r, "x", "y", "nil"))
	}},
	{15, func(w *world, r *rand.Rand) string { return "fork " + anyRunning(w, r) }},

	{16, func(w *world, r *rand.Rand) string { return "join " + pick(r, w.names...) + anyWord(r) }},
	{8, func(w *world, r *rand.Rand) string {
		return "moveto " + anyHome(w, r) + " " + pick(r, "etcd", "etcd", "file")
	}},
	{6, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("moveto %s %s %d", anyHome(w, r), pick(r, "etcd", "file"), r.IntN(1000))
	}},
	{2, func(w *world, r *rand.Rand) string { return "config " + anyHome(w, r) }},
	{4, func(w *world, r *rand.Rand) string { return "keep " + pick(r, "k", "l") }},
	{2, func(w *world, r *rand.Rand) string { return "back " + pick(r, "k", "l") }},
	{4, func(w *world, r *rand.Rand) string { return "sleep " + anyRunning(w, r) }},
	{6, func(w *world, r *rand.Rand) string { return "wake " + anyAsleep(w, r) }},

	{3, func(w *world, r *rand.Rand) string { return "export " + anyHome(w, r) + " " + pick(r, "f", "g") }},
	{1, func(w *world, r *rand.Rand) string { return "check " + anyHome(w, r) }},
	{5, func(w *world, r *rand.Rand) string { return "adopt " + anyHome(w, r) + anyWord(r) }},
	{4, func(w *world, r *rand.Rand) string {
		return "import " + anyHome(w, r) + " " + pick(r, "f", "g", "out") + anyWord(r)
	}},
	{2, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("raise %s %d", anyHome(w, r), afterHeight(w, r))
	}},
	{1, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("make %s after %d", anyHome(w, r), afterHeight(w, r))
	}},
	{1, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("found %s after %d", pick(r, w.names...), afterHeight(w, r))
	}},
	{6, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("install %s state %s", pick(r, w.names...), pick(r, "f", "g")) + anyWord(r)
	}},
	{1, func(w *world, r *rand.Rand) string { return "out " + anyHome(w, r) }},
	{1, func(w *world, r *rand.Rand) string { return fmt.Sprintf("node %d z", w.oracle.top().height+1) }},
	{8, func(w *world, r *rand.Rand) string { return fmt.Sprintf("obey %d", r.IntN(4)) }},

	{4, func(w *world, r *rand.Rand) string { return "save " + anyHome(w, r) + " " + pick(r, "k", "l") }},
	{6, func(w *world, r *rand.Rand) string {
		what, ways := "file", waysOfFile
		if r.IntN(3) == 0 {
			what, ways = pick(r, "folder", "home"), waysOfFolder
		}
		return fmt.Sprintf("put %s %s %s %s", anyHome(w, r), pick(r, "k", "l"), what, pick(r, slices.Sorted(maps.Keys(ways))...))
	}},
	{4, func(w *world, r *rand.Rand) string { h := anyHome(w, r); return "copy " + h + " " + other(w, r, h) }},
	{2, func(w *world, r *rand.Rand) string { return "remove " + anyHome(w, r) }},
	{1, func(w *world, r *rand.Rand) string {
		return fmt.Sprintf("flip %s %d %d", anyHome(w, r), pick(r, 0, 65536)+r.IntN(1024), r.IntN(8))
	}},
}

// restoreChoices come besides, where the cluster is the story's own.
var restoreChoices = []choice{
	{25, func(w *world, r *rand.Rand) string { return "snapshot " + pick(r, "s", "t") }},
	{35, func(w *world, r *rand.Rand) string { return "restore " + pick(r, "s", "t") }},
}

// anyAsleep returns a home whose signer sleeps, if there is one.
func anyAsleep(w *world, r *rand.Rand) string {
	for _, i := range r.Perm(len(w.names)) {
		if name := w.names[i]; w.homes[name].asleep {
			return name
		}
	}
	return anyHome(w, r)
}

// firstShared returns how such a story begins: in etcd, or in a file that moves there.
func firstShared(r *rand.Rand) []string {
	begin := pick(r, "begin shared a1", "begin shared a1", "begin imported a1; start a1; sign a1 1 x; stop a1; save a1 k; moveto a1 etcd", fmt.Sprintf("begin migrated a1 %d; start a1; kill a1; moveto a1 etcd", 1+r.IntN(20)))
	return append(strings.Split(begin, "; "), "start a1", "join b1", "start b1")
}
