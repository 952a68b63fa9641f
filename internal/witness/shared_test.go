package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// store is a mark that others raise.
type store struct {
	mu     sync.Mutex
	mark   watermark.Mark
	broken bool
	loads  int
}

func (s *store) load(ctx context.Context, upTo watermark.Mark) (watermark.Mark, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.broken {
		return watermark.Mark{}, errors.New("the store is broken on purpose")
	}
	return s.mark, nil
}

func (s *store) set(m watermark.Mark, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark, s.broken = m, broken
}

// sharedStory is a watch whose mark others raise, and a chain.
type sharedStory struct {
	*world
	t     *testing.T
	n     *node
	store *store
	now   time.Time
}

// TestShared plays testdata/shared.txt.
func TestShared(t *testing.T) {
	text, err := os.ReadFile("testdata/shared.txt")
	if err != nil {
		t.Fatal(err)
	}
	stories := strings.Split(string(text), "\nstory ")[1:]
	for _, story := range stories {
		name, lines, _ := strings.Cut(story, "\n")
		t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := &sharedStory{t: t, store: &store{}, now: time.Now(), n: newNode(t, 0)}
			for i, line := range strings.Split(lines, "\n") {
				if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
					s.do(fmt.Sprintf("line %d: %s", i+1, line), words)
				}
			}
		})
	}
}

// mark reads a mark: a height, and after a colon nil for a precommit of no block, floor for
// a mark without bytes, bare for a precommit whose bytes are not known.
func (s *sharedStory) mark(word string) watermark.Mark {
	text, kind, _ := strings.Cut(word, ":")
	height, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	switch {
	case height == 0:
		return watermark.Mark{}
	case kind == "nil":
		return precommit(height, 3, s.now)
	case kind == "floor":
		return watermark.Floor(height)
	case kind == "bare":
		m := precommit(height, 2, s.now)
		m.SignBytes = nil
		return m
	}
	return precommit(height, 2, s.now)
}

func (s *sharedStory) do(where string, words []string) {
	s.t.Helper()
	number := func(i int) int64 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		if err != nil {
			s.t.Fatalf("%s: %v", where, err)
		}
		return n
	}
	switch words[0] {
	case "chain": // HEIGHT
		s.n.set(func(n *node) { n.tip = number(1) })
	case "voted": // MARK by a twin or anybody, before it begins
		s.n.set(func(n *node) {
			flag := 2
			if strings.HasSuffix(words[1], ":nil") {
				flag = 3
			}
			height := s.mark(words[1]).Height
			n.commits[height] = []sigJSON{sign(ourKey, fmt.Sprintf("%X", ourAddress[:]), height, flag, s.now)}
		})
	case "start": // MARK [quarantine]
		var edit func(*Config)
		if len(words) > 2 {
			edit = quarantine
		}
		if s.store.mark.IsZero() {
			s.store.set(s.mark(words[1]), false)
		}
		s.world = watchShared(s.t, s.mark(words[1]), s.store.load, edit, s.n.URL)
	case "store": // MARK [broken]
		s.store.set(s.mark(words[1]), len(words) > 2)
	case "signed": // MARK, by us
		s.Signed(s.mark(words[1]), []byte("sig"))
	case "block": // blocks that the chain makes at once, and what is in them of our key
		s.n.set(func(n *node) {
			for _, word := range words[1:] {
				s.block(n, word)
			}
		})
	case "signs": // above HEIGHT
		if b := s.until(where, isOpen); b.Floor != number(2) {
			s.t.Fatalf("%s: above %d", where, b.Floor)
		}
	case "waits":
		s.quarantined()
	case "passes":
		s.until(where, isOpen)
		select {
		case <-s.passed: // before it opened
		default:
			s.t.Fatalf("%s: open, and not passed: %s", where, s.log)
		}
	case "judged": // HEIGHT
		s.tip(number(1))
	case "stops": // HEIGHT
		if p := s.found(number(1)); p.Height != number(1) {
			s.t.Fatalf("%s: %+v", where, p)
		}
	case "fails": // until the witness says that the store fails
		s.untilLog(where, "cannot tell whose the signature of our key")
	case "clean": // N heights count for the quarantine
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := len(s.clean); int64(n) != number(1) {
			s.t.Fatalf("%s: %d", where, n)
		}
	case "silent": // for so long that it would end any quarantine
		s.mu.Lock()
		defer s.mu.Unlock()
		s.quietFrom, s.judgedAt = s.quietFrom.Add(-time.Hour), s.judgedAt.Add(-time.Hour)
		if s.step(time.Now()); s.phase != quarantined {
			s.t.Fatalf("%s: %v", where, s.phase)
		}
	case "later": // so long after a commit could not be judged that this holds nothing up
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unjudgedAt = s.unjudgedAt.Add(-maxPause)
	case "loads": // N at most
		if n := s.store.loads; int64(n) > number(1) {
			s.t.Fatalf("%s: %d", where, n)
		}
	default:
		s.t.Fatalf("what is %s?", where)
	}
}

// block makes a block: with a precommit of ours, for nil, dated in an hour (later), or
// without.
func (s *sharedStory) block(n *node, word string) {
	n.tip++
	flag, at := 2, s.now
	switch word {
	case "nil":
		flag = 3
	case "later":
		at = s.now.Add(time.Hour)
	case "without":
		return
	}
	n.commits[n.tip] = []sigJSON{sign(ourKey, fmt.Sprintf("%X", ourAddress[:]), n.tip, flag, at)}
}

func (s *sharedStory) untilLog(where, text string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) || isStopped(s.Bounds()) {
			s.t.Fatalf("%s: %s", where, s.log)
		}
	}
}

// A commit that cannot be judged, because a shared mark cannot be loaded, is no silence, no
// blindness and no clean block, and its height counts for what is signed after a start.
func TestUnjudged(t *testing.T) {
	const clean, quiet, blind, alone = "others show clean blocks", "others show nothing new", "others show no commit", "nobody else answers"
	for _, name := range []string{clean, quiet, blind, alone} {
		w, err := New(Config{
			ChainID: chainID, Addrs: []string{"http://127.0.0.1:1"}, Verify: ourVerify, Quarantine: true, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(-time.Hour)
		w.phase, w.judged, w.tip = quarantined, 100, 100
		w.quietFrom, w.answered, w.judgedAt = long, long, long
		w.unjudged(102)
		now := w.unjudgedAt.Add(maxPause)
		switch name {
		case clean:
			w.clean = map[int64]bool{101: true, 102: true, 103: true}
			now = now.Add(-time.Nanosecond)
		case quiet:
			w.answered, w.judgedAt = now, now
		case blind:
			w.answered, w.quietFrom = now, now
		}
		if w.step(now); w.phase != quarantined {
			t.Errorf("%s: %v %s", name, w.phase, w.warning)
		}
		w.unjudged(101)
		if w.open(""); w.floor != 103 {
			t.Errorf("%s: signs above %d, and the chain is at 102", name, w.floor)
		}
	}
}
