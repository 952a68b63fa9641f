//go:build linux

// Package operator does to the real program what operators do, in any order, and
// knows every signature that ever left: no two conflict, unless somebody has said
// something false, and then privyseal has said what his word claims.
//
// A story is a list of steps (steps_test.go). Random ones are made from a seed;
// those that once failed, and those that somebody wanted to tell, are kept in
// testdata/stories.
package operator

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"privyseal/internal/dynamostore/dynamotest"
	"privyseal/internal/etcd/etcdtest"
)

var (
	stories      = flag.Int("stories", 1800, "how many random stories of files")
	seed         = flag.Uint64("seed", 0, "the first seed; 0 takes the stories that are always the same")
	all          = flag.Bool("all", false, "go on after a story that fails")
	length       = flag.Int("length", 14, "steps in a random story")
	etcdStories  = flag.Int("etcd", 30, "how many random stories of hosts that share a state in etcd")
	tableStories = flag.Int("dynamodb", 20, "how many in a table of DynamoDB")
	restored     = flag.Int("restores", 4, "how many of hosts whose cluster comes out of snapshots")
)

// program is the privyseal under test; it is built if none is given.
var program string

func init() {
	flag.StringVar(&program, "program", "", "the privyseal to test, built from here if empty")
}

func TestMain(m *testing.M) {
	flag.Parse()
	mountsOfOurOwn()
	dir, err := os.MkdirTemp("", "operator")
	if err == nil && program == "" {
		program = filepath.Join(dir, "privyseal")
		err = build()
	}
	if err != nil {
		log.Fatal(err)
	}
	code := etcdtest.Main(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

func build() error {
	cmd := exec.Command("go", "build", "-o", program, "privyseal/cmd/privyseal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build privyseal: %w\n%s", err, out)
	}
	return nil
}

// workers is how many stories happen at once: they wait for processes and for the
// disk.
const workers = 4

func TestRandom(t *testing.T) {
	if testing.Short() {
		*stories = min(*stories, 400)
	}
	tellMany(t, *stories, "stories", func() *shared { return nil })
}

// TestRandomInEtcd tells stories of hosts that share a state.
func TestRandomInEtcd(t *testing.T) {
	if *etcdStories > 0 {
		c := etcdtest.Shared(t)
		tellMany(t, *etcdStories, "etcd", func() *shared { return inEtcd(c) })
	}
}

// TestRandomInTable tells stories of hosts that share a state in a table of DynamoDB, a strict stub
// of it.
func TestRandomInTable(t *testing.T) {
	table := dynamotest.New(t)
	tellMany(t, *tableStories, "dynamodb", func() *shared { return inTable(table) })
}

// TestRandomRestores tells stories of hosts whose whole cluster comes out of a snapshot, one after the
// other in one cluster.
func TestRandomRestores(t *testing.T) {
	if *restored == 0 {
		return
	}
	c := etcdtest.Start(t, etcdtest.Options{})
	for n := 1; n <= *restored && (*all || !t.Failed()); n++ {
		s := inEtcd(c)
		s.own = t
		w, err := random(t, *seed+uint64(n), s)
		if err != nil {
			t.Errorf("story %d (-seed %d -restores 1): %v\n\n%s", n, *seed+uint64(n)-1, err, strings.Join(w.log, "\n"))
		}
		t.Logf("%d steps, %d restores, %d positions signed, false: %q", len(w.log), w.shared.restored, len(w.oracle.order), w.oracle.excuse)
	}
}

// tellMany tells so many random stories; which is the flag that says how many.
func tellMany(t *testing.T, many int, which string, database func() *shared) {
	var next atomic.Int64
	var group sync.WaitGroup
	var steps, excused, signed atomic.Int64
	start := time.Now()
	for range workers {
		group.Go(func() {
			for *all || !t.Failed() {
				n := next.Add(1)
				if n > int64(many) {
					return
				}
				w, err := random(t, *seed+uint64(n), database())
				steps.Add(int64(len(w.log)))
				signed.Add(int64(len(w.oracle.order)))
				if w.oracle.excuse != "" {
					excused.Add(1)
				}
				if err != nil {
					short := shrink(t, database, w.log, err.Error())
					t.Errorf("story %d (-seed %d -%s 1): %v\nin short:\n\n%s", n, *seed+uint64(n)-1, which, err, strings.Join(short, "\n"))
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d stories, %d steps, %d positions signed, a false word in %d, in %s", many, steps.Load(), signed.Load(), excused.Load(), time.Since(start).Round(time.Second))
}

// random tells the story of a seed, up to the first thing that must not be.
func random(t *testing.T, seed uint64, s *shared) (*world, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	w, err := newWorld(newDir(t), s)
	if err != nil {
		return w, err
	}
	defer w.close()
	if err := w.tell(first(w, r)); err != nil {
		return w, err
	}
	for range *length {
		if err := w.step(next(w, r)); err != nil {
			return w, err
		}
	}
	return w, w.tell(last(w))
}

// tell does the steps of a story.
func (w *world) tell(lines []string) error {
	for _, line := range lines {
		if err := w.step(line); err != nil {
			return err
		}
	}
	return nil
}

// shrink returns a part of a story that fails as the whole does, from which no
// step can be left out.
func shrink(t *testing.T, database func() *shared, lines []string, why string) []string {
	for i := len(lines) - 2; i > 0; i-- {
		fewer := slices.Delete(slices.Clone(lines), i, i+1)
		w, err := newWorld(newDir(t), database())
		if err == nil {
			err = w.tell(fewer)
		}
		w.close()
		if err != nil && kind(err.Error()) == kind(why) {
			lines = fewer
		}
	}
	return lines
}

// kind is what a failure says, without the numbers, names and output in it.
func kind(failure string) string {
	line, _, _ := strings.Cut(failure, "\n")
	return variable.ReplaceAllString(line, "")
}

var variable = regexp.MustCompile(`[0-9]+(/[a-z]+)?|"[^"]*"|:.*`)

// TestStories tells the stories of testdata/stories: what was found once, and what
// operators did who were slashed.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var s *shared
			switch {
			case strings.HasPrefix(filepath.Base(file), "dynamodb-"):
				s = inTable(dynamotest.New(t))
			case strings.HasPrefix(filepath.Base(file), "etcd-dynamodb-"):
				s = inEtcd(etcdtest.Shared(t))
				s.table = dynamotest.New(t)
			case restoresEtcd.Match(text):
				s = inEtcd(etcdtest.Start(t, etcdtest.Options{}))
				s.own = t
			case inEtcdStory.Match(text):
				s = inEtcd(etcdtest.Shared(t))
			}
			w, err := newWorld(newDir(t), s)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			for i, line := range strings.Split(string(text), "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				if err := w.expect(line); err != nil {
					t.Fatalf("%s:%d: %s: %v", file, i+1, line, err)
				}
			}
		})
	}
}

// inEtcdStory finds the steps that need a cluster.
var inEtcdStory = regexp.MustCompile(`(?m)^(begin shared|moveto|join) `)

// restoresEtcd finds those that need one of their own.
var restoresEtcd = regexp.MustCompile(`(?m)^restore `)

// newDir returns a folder on a file system that may hold state; its path is short
// enough for sockets.
func newDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "op")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
