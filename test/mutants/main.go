// Program mutants shows that the tests bite: it puts one fault after the other
// into the code, each in one of the lists beside it, and demands that the tests
// of the package named with it fail.
//
// The fault is put in by `go test -overlay`, so that no file of the tree changes.
// A mutant that survives says that a test is missing; one that does not compile,
// or whose place in the code is gone, says that the list has to follow the code.
//
// With -compile it only looks whether they compile, in minutes: after a move.
//
// With -share it runs about a hundred, from all lists, and others at each commit: as many
// commits in a row as it takes run all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// shareSize is how many mutants a commit runs at most, so that this takes as long however
// many there are.
const shareSize = 100

func main() {
	share := flag.Bool("share", false, "only those whose turn it is at this commit")
	only := flag.String("only", "", "only mutants with this `text` in their name, file or list")
	times := flag.Int("times", 1, "how often the tests of each mutant run: a test that kills it by luck does not every time")
	compile := flag.Bool("compile", false, "run no tests: do the mutants compile?")
	workers := flag.Int("p", runtime.NumCPU(), "how many at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if *times = max(*times, 1); *compile {
		*times = 0
	}
	err := run(ctx, *share, *only, *times, *workers)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, share bool, only string, times, workers int) error {
	mutants, err := readLists("test/mutants")
	if err != nil {
		return err
	}
	if share {
		turn, turns := turnOf(ctx, len(mutants))
		fmt.Printf("mutants: share %d of %d, the turn of this commit\n", turn+1, turns)
		mutants = shareOf(mutants, turn, turns)
	}
	mutants = matching(mutants, only)
	if len(mutants) == 0 {
		return errors.New("no mutant matches; run this in the repository's root")
	}
	l, err := newLab(ctx, times)
	if err != nil {
		return err
	}
	defer l.close()
	if times > 0 {
		if err := l.checkUnchanged(mutants); err != nil {
			return err
		}
	}
	return hunt(l, mutants, workers)
}

// turnOf returns whose turn it is of how many: the number of the commit in its history,
// modulo turns. Without git it is the first one's.
func turnOf(ctx context.Context, mutants int) (turn, turns int) {
	turns = max(1, (mutants+shareSize-1)/shareSize)
	out, err := exec.CommandContext(ctx, "git", "rev-list", "--count", "HEAD").Output()
	if err != nil {
		return 0, turns
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return n % turns, turns
}

// shareOf returns every mutant in so many, so that each turn has some of each package.
func shareOf(all []mutant, turn, turns int) (some []mutant) {
	for i, m := range all {
		if i%turns == turn {
			some = append(some, m)
		}
	}
	return some
}

func matching(all []mutant, text string) (some []mutant) {
	for _, m := range all {
		if strings.Contains(m.where+" "+m.file+" "+m.name, text) {
			some = append(some, m)
		}
	}
	return some
}

// hunt tries all mutants and prints a line for each.
func hunt(l *lab, mutants []mutant, workers int) error {
	start := time.Now()
	var wait sync.WaitGroup
	var mu sync.Mutex
	var bad []string
	next := make(chan mutant)
	for range max(workers, 1) {
		wait.Go(func() {
			for m := range next {
				start := time.Now()
				o := l.try(m)
				mu.Lock()
				fmt.Printf("%-8s %4.1fs  %s: %s%s\n", o.word(l.wish()), time.Since(start).Seconds(), m.file, m.name, o.by())
				if o.err != nil {
					fmt.Print(indent(o.err.Error()))
					bad = append(bad, m.where)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range mutants {
		select {
		case next <- m:
		case <-l.ctx.Done():
		}
	}
	close(next)
	wait.Wait()
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of %d are not %s: %s", len(bad), len(mutants), l.wish(), strings.Join(bad, " "))
	}
	fmt.Printf("mutants: all %d %s in %.0f s\n", len(mutants), l.wish(), time.Since(start).Seconds())
	return nil
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ") + "\n"
}
