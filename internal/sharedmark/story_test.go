package sharedmark_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/sharedmark"
	"privyseal/internal/sharedmark/enginetest"
	"privyseal/internal/watermark"
	"privyseal/internal/watermark/storetest"
)

// reasons are what a story's "!" names.
var reasons = map[string]error{
	"missing": sharedmark.ErrMissing, "unjoined": sharedmark.ErrUnjoined, "exists": sharedmark.ErrExists, "foreign": sharedmark.ErrForeign,
	"damaged": sharedmark.ErrDamaged, "restored": sharedmark.ErrRestored, "exported": sharedmark.ErrExported, "twin": sharedmark.ErrTwin,
	"below": sharedmark.ErrBelow, "place": sharedmark.ErrPlace, "moved": watermark.ErrMoved, "fails": enginetest.ErrFake, "floor": storetest.ErrFake,
}

// player is one host of a story.
type player struct {
	*host
	kept   *storetest.Fake // its floor
	signer *sharedmark.Store
	open   *enginetest.Memory // of the signer
	last   watermark.Saved    // that the signer knows
	fate   []enginetest.Outcome
	clock  time.Duration // by how much that of the host is wrong
}

// world is what a story happens to.
type world struct {
	t        *testing.T
	db       *enginetest.Database
	players  map[string]*player
	snapshot enginetest.Snapshot
	restores uint64
	floor    watermark.Mark // that was noted
}

func newWorld(t *testing.T) *world {
	return &world{t: t, db: enginetest.NewDatabase(), players: map[string]*player{}}
}

func (w *world) player(name string) *player {
	p := w.players[name]
	if p == nil {
		p = &player{host: &host{t: w.t, db: w.db}}
		p.keep(storetest.NewFake(watermark.Mark{}))
		w.players[name] = p
	}
	return p
}

func (p *player) keep(floor *storetest.Fake) {
	p.kept = floor
	p.host.floor = func() watermark.Store { return floor.Another() }
}

// config is for the next use, with the fate of its engine.
func (p *player) config() sharedmark.Config {
	c := p.host.config()
	p.engine.Script(p.fate...)
	p.fate = nil
	return c
}

// at is a mark of a height; with letters after it another one there.
func at(height string) watermark.Mark {
	n, err := strconv.ParseInt(strings.TrimRight(height, "abc"), 10, 64)
	if err != nil {
		panic(err)
	}
	return watermark.Mark{Height: n, Step: watermark.StepPrevote, SignBytes: []byte(height)}
}

// load has the signer of a host load; there is one from then on.
func (p *player) load(ctx context.Context) (watermark.Mark, error) {
	if p.signer == nil {
		p.signer = sharedmark.New(p.config())
		p.signer.SetClock(func() time.Time { return time.Now().Round(0).Add(p.clock) }, sharedmark.Pause)
		p.open = p.engine
	}
	var err error
	p.last, err = p.signer.Load(ctx)
	return p.last.Mark, err
}

// do does what a line says, and returns the mark that comes of it.
func (p *player) do(ctx context.Context, words []string) (m watermark.Mark, err error) {
	if slices.Contains([]string{"create", "join", "export", "raise", "adopt"}, words[0]) {
		p.signer = nil // the floor is locked: an operator ends the signer first
	}
	switch words[0] {
	case "create":
		return m, sharedmark.Create(ctx, p.config(), watermark.Saved{Mark: at(words[1])})
	case "join":
		return m, sharedmark.Join(ctx, p.config())
	case "export":
		saved, err := sharedmark.Export(ctx, p.config())
		return saved.Mark, err
	case "raise":
		return m, sharedmark.Raise(ctx, p.config(), watermark.Saved{Mark: at(words[1])})
	case "adopt":
		return m, sharedmark.Adopt(ctx, p.config())
	case "peek", "newest", "known":
		info, err := sharedmark.Peek(ctx, p.config(), p.kept.Saved().Mark)
		if err == nil {
			err = info.Problem
		}
		return map[string]watermark.Mark{"peek": info.Saved.Mark, "newest": info.Newest.Mark, "known": info.Known}[words[0]], err
	case "load":
		return p.load(ctx)
	case "sign":
		if p.last, err = p.signer.Replace(ctx, p.last, at(words[1])); err != nil {
			return m, err
		}
		return p.last.Mark, nil
	}
	return m, fmt.Errorf("a line that says %q", words)
}

// change changes what a host has, without using the mark.
func (w *world) change(p *player, words []string) bool {
	switch words[0] {
	case "stop": // as kill -9 does
		p.signer = nil
	case "clock": // steps
		p.clock, _ = time.ParseDuration(words[1])
	case "cut":
		p.open.Cut()
	case "copies": // the floor of another host
		p.keep(storetest.NewFake(w.player(words[1]).kept.Saved().Mark))
	case "shares":
		p.keep(w.player(words[1]).kept)
	case "notes":
		w.floor = p.kept.Saved().Mark
	case "reverts":
		p.kept.Put(w.floor)
	case "breaks":
		p.kept.Put(watermark.Mark{Height: 9, Step: watermark.StepPrecommit, SignBytes: []byte("x")})
	case "fate":
		p.fate = outcomes(words[1:])
		if p.signer != nil {
			p.open.Script(p.fate...)
			p.fate = nil
		}
	case "enclave":
		p.mac = &[32]byte{1}
	case "chain":
		p.chain = words[1]
	case "key":
		p.key = words[1][0]
	default:
		return false
	}
	return true
}

func outcomes(words []string) (list []enginetest.Outcome) {
	names := map[string]enginetest.Outcome{"ok": enginetest.OK, "unsent": enginetest.NotSent, "before": enginetest.Before,
		"after": enginetest.After, "late": enginetest.Late, "refused": enginetest.Refused}
	for _, word := range words {
		list = append(list, names[word])
	}
	return list
}

// database changes the database.
func (w *world) database(words []string) {
	switch words[0] {
	case "snapshot":
		w.snapshot = w.db.Snapshot()
	case "restore":
		what, n := append(words, "", "")[1], uint64(0)
		if len(words) > 2 {
			n, _ = strconv.ParseUint(words[2], 10, 64)
		}
		w.db.Restore(w.snapshot, func(p *sharedmark.Position) {
			w.restores++
			p.Index += w.restores << 20 // shows nothing, but for what is said
			switch what {
			case "index":
				p.Index = n
			case "term":
				p.Term = n
			case "medium":
				p.Medium[0]++
			case "place":
				p.Place = [8]byte{byte(n)}
			case "members":
				p.Members = append([]uint64{1, 2}[:n:n], 7, 8, 9)
			}
		})
	case "delete":
		w.db.Put(nil)
	case "foreign":
		w.db.Put([]byte("what another program has here, " + strings.Repeat("and more of it, ", 20)))
	case "flip":
		value := bytes.Clone(w.db.At().Value)
		value[30] ^= 1
		w.db.Put(value)
	}
}

// line plays one line: HOST WORDS [= HEIGHT | ! REASON [TEXT]].
func (w *world) line(line string) error {
	line, want, fails := strings.Cut(line, " ! ")
	line, height, says := strings.Cut(line, " = ")
	words := strings.Fields(line)
	if words[0] == "db" {
		w.database(words[1:])
		return nil
	}
	p := w.player(words[0])
	if w.change(p, words[1:]) {
		return nil
	}
	m, err := p.do(w.t.Context(), words[1:])
	reason, text, _ := strings.Cut(want, " ")
	switch {
	case fails && (err == nil || reason != "else" && !errors.Is(err, reasons[reason]) || !strings.Contains(err.Error(), text)):
		return fmt.Errorf("%v, want %q", err, want)
	case !fails && err != nil:
		return err
	case says && !isAt(m, strings.Fields(height)):
		return fmt.Errorf("it is at %v with %q, want %s", m, m.SignBytes, height)
	}
	return nil
}

// isAt reports whether m is at a height, and has bytes where those are said, "-" for none.
func isAt(m watermark.Mark, want []string) bool {
	return fmt.Sprint(m.Height) == want[0] && (len(want) < 2 || string(m.SignBytes) == strings.TrimPrefix(want[1], "-"))
}

func TestStories(t *testing.T) {
	raw, err := os.ReadFile("testdata/stories.txt")
	if err != nil {
		t.Fatal(err)
	}
	for story := range strings.SplitSeq(string(raw), "\nstory ") {
		name, lines, _ := strings.Cut(story, "\n")
		if strings.HasPrefix(name, "#") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for line := range strings.Lines(lines) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				if err := w.line(line); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
		})
	}
}

// cutOff are what an operator does, cut off at each call of the database and of the floor,
// after what came before it; then it is typed again, and the end is what it would have been.
var cutOff = []struct{ before, line string }{
	{"", "a create 5"},
	{"b create 5", "a join"},
	{"a create 5; b join", "a export"},
	{"a create 5; b join", "a raise 9"},
	{"a create 5; a export", "a raise 9"},
	{"a create 5; b join; db snapshot; b load; b sign 9; db restore medium", "b adopt"},
	{"a create 5; b join; a load; a sign 7; db delete", "a adopt"},
	{"a create 5; b join; db snapshot; b load; b sign 9; db restore medium; a adopt", "b adopt"},
}

func TestCutOff(t *testing.T) {
	for _, c := range cutOff {
		t.Run(c.before+"; "+c.line, func(t *testing.T) {
			want, _ := interrupted(t, c.before, c.line, nil, nil)
			struck := 0
			for n := range 8 {
				for _, o := range []enginetest.Outcome{enginetest.NotSent, enginetest.Before, enginetest.After, enginetest.Late} {
					// Refused is final: the process ends there.
					fate := append(make([]enginetest.Outcome, n), o, enginetest.Refused, enginetest.Refused)
					got, failed := interrupted(t, c.before, c.line, fate, nil)
					if got != want {
						t.Errorf("cut off at call %d of the database, outcome %d: %s, want %s", n, o, got, want)
					}
					if failed {
						struck++
					}
				}
				for _, o := range []storetest.Outcome{storetest.Before, storetest.After} {
					if got, _ := interrupted(t, c.before, c.line, nil, append(make([]storetest.Outcome, n), o)); got != want {
						t.Errorf("cut off at call %d of the floor, outcome %d: %s, want %s", n, o, got, want)
					}
				}
			}
			if struck < 8 {
				t.Errorf("only %d of the faults of the database ended it", struck)
			}
		})
	}
}

// interrupted plays before, then line with faults, then line again if that failed, and
// returns what is there then, and whether it failed.
func interrupted(t *testing.T, before, line string, fate []enginetest.Outcome, floor []storetest.Outcome) (end string, failed bool) {
	t.Helper()
	w := newWorld(t)
	for _, l := range strings.Split(before, ";") {
		if l = strings.TrimSpace(l); l != "" {
			if err := w.line(l); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
		}
	}
	name, _, _ := strings.Cut(line, " ")
	p := w.player(name)
	kept := p.kept
	p.fate = fate
	p.signer = nil
	p.host.floor = func() watermark.Store {
		open := kept.Another()
		open.Script(floor...)
		return open
	}
	failed = w.line(line) != nil
	p.keep(kept)
	if failed {
		if err := w.line(line); err != nil && !(creates(line) && errors.Is(err, sharedmark.ErrExists)) {
			return err.Error(), true
		}
	}
	info, err := sharedmark.Peek(t.Context(), p.config(), p.kept.Saved().Mark)
	if err != nil || info.Problem != nil && !info.Exported {
		return fmt.Sprint(err, info.Problem), failed
	}
	return fmt.Sprintf("%v exported %v, known %v", info.Saved.Mark, info.Exported, info.Known), failed
}

// creates: what was made before it was cut off is there when it is typed again.
func creates(line string) bool { return strings.Contains(line, " create ") }
