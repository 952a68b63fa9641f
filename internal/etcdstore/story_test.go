package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"privyseal/internal/etcd/etcdtest"
	"privyseal/internal/etcdstore"
	"privyseal/internal/filestore"
	"privyseal/internal/sharedmark"
	"privyseal/internal/watermark"
)

// reasons are what a story's "!" names; "else" is any.
var reasons = map[string]error{
	"restored": sharedmark.ErrRestored, "exported": sharedmark.ErrExported, "moved": watermark.ErrMoved, "refused": sharedmark.ErrRefused,
	"unsent": sharedmark.ErrNotSent, "floor": filestore.ErrMissing, "missing": sharedmark.ErrMissing,
}

// player is one host of a story: its floor is its own, and so is its signer's engine.
type player struct {
	*host
	signer *sharedmark.Store
	last   watermark.Saved // that the signer knows
}

// world is what a story happens to: a real cluster.
type world struct {
	t       *testing.T
	c       *etcdtest.Cluster
	other   *etcdtest.Cluster // nil: no story has had a use for it
	prefix  string
	later   time.Duration
	blind   bool // no engine shows where the cluster stands: no fence holds
	players map[string]*player
	oracle  oracle
	cluster clusterState
}

// oracle knows every mark that was acknowledged: what is signed after that.
type oracle struct {
	signed  map[int64]string // the sign bytes at each height
	highest int64
	found   []string // what must not be
}

// sees notes a mark that somebody was told to sign.
func (o *oracle) sees(who string, m watermark.Mark) {
	if other, ok := o.signed[m.Height]; ok && other != string(m.SignBytes) {
		o.found = append(o.found, fmt.Sprintf("%s signs %q at height %d, where %q is signed", who, m.SignBytes, m.Height, other))
	} else if !ok && m.Height < o.highest {
		o.found = append(o.found, fmt.Sprintf("%s signs height %d, and %d is signed", who, m.Height, o.highest))
	}
	o.signed[m.Height] = string(m.SignBytes)
	o.highest = max(o.highest, m.Height)
}

// loads looks at a mark with which somebody would go on.
func (o *oracle) loads(who string, m watermark.Mark) {
	if m.Height < o.highest {
		o.found = append(o.found, fmt.Sprintf("%s goes on at height %d, and %d is signed", who, m.Height, o.highest))
	}
}

// sightless hides where the cluster stands.
type sightless struct{ sharedmark.Engine }

func (e sightless) Ready(ctx context.Context) (p sharedmark.Position, fresh bool, err error) {
	_, fresh, err = e.Engine.Ready(ctx)
	return p, fresh, err
}

func (w *world) player(name string) *player {
	p := w.players[name]
	if p == nil {
		p = &player{host: newHost(w.t, w.c.Signer, w.prefix, w.c.Endpoints()...)}
		w.players[name] = p
	}
	return p
}

func (w *world) use(p *player) (sharedmark.Config, error) {
	floor, err := filestore.Open(w.t.Context(), p.Floor)
	engine := etcdstore.New(p.c)
	engine.SetClock(func() time.Time { return time.Now().Add(w.later) })
	c := sharedmark.Config{ID: id, Engine: engine, Floor: floor}
	if w.blind {
		c.Engine = sightless{c.Engine}
	}
	return c, err
}

// mark is that of a height; with letters after it another one there.
func mark(height string) watermark.Mark {
	n, err := strconv.ParseInt(strings.TrimRight(height, "abc"), 10, 64)
	if err != nil {
		panic(err)
	}
	return watermark.Mark{Height: n, Step: watermark.StepPrevote, SignBytes: []byte(height)}
}

func (p *player) stop() {
	if p.signer != nil {
		p.signer.Close()
	}
	p.signer = nil
}

// operates does what an operator types, without a signer on that host.
func (w *world) operates(ctx context.Context, p *player, words []string) error {
	p.stop()
	c, err := w.use(p)
	if err != nil {
		return err
	}
	defer c.Floor.Close()
	switch words[0] {
	case "create":
		return sharedmark.Create(ctx, c, watermark.Saved{Mark: mark("1")})
	case "join":
		return sharedmark.Join(ctx, c)
	case "export":
		_, err = sharedmark.Export(ctx, c)
		return err
	case "raise":
		return sharedmark.Raise(ctx, c, watermark.Saved{Mark: mark(words[1])})
	}
	return sharedmark.Adopt(ctx, c)
}

// load has the signer of a host load; there is one from then on.
func (w *world) load(ctx context.Context, name string, p *player) (err error) {
	if p.signer == nil {
		c, err := w.use(p)
		if err != nil {
			return err
		}
		p.signer = sharedmark.New(c)
	}
	if p.last, err = p.signer.Load(ctx); err == nil {
		w.oracle.loads(name, p.last.Mark)
	}
	return err
}

// sign has the signer of a host replace the mark that it knows, up to the last height of
// FIRST..LAST.
func (w *world) sign(ctx context.Context, name string, p *player, heights string) (err error) {
	first, last, ranges := strings.Cut(heights, "..")
	m := mark(first)
	for end := m.Height; ; {
		if ranges {
			end = mark(last).Height
		}
		if p.last, err = p.signer.Replace(ctx, p.last, m); err != nil {
			return err
		}
		w.oracle.sees(name, m)
		if m.Height == end {
			return nil
		}
		m = mark(strconv.FormatInt(m.Height+1, 10))
	}
}

// do does what a line says of a host.
func (w *world) do(name string, words []string) error {
	p := w.player(name)
	limit := time.Minute
	if n := len(words) - 2; n > 0 && words[n] == "within" {
		limit, _ = time.ParseDuration(words[n+1])
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	switch words[0] {
	case "stop":
		p.stop()
		return nil
	case "load":
		return w.load(ctx, name, p)
	case "sign":
		return w.sign(ctx, name, p, words[1])
	case "loses": // its floor
		p.stop()
		return os.Remove(p.Floor.Path)
	case "tries":
		p.c.Try, _ = time.ParseDuration(words[1])
		return nil
	case "reaches":
		p.c.Endpoints = w.endpoints(words[1:])
		return nil
	case "shows":
		w.shows(p, words[1])
		return nil
	case "create", "join", "export", "raise", "adopt":
		return w.operates(ctx, p, words)
	}
	return fmt.Errorf("a line that says %q", words)
}

// line plays one line: HOST WORDS [! REASON [TEXT]], or etcd WORDS.
func (w *world) line(line string) error {
	line, want, fails := strings.Cut(line, " ! ")
	words := strings.Fields(line)
	if words[0] == "etcd" {
		w.cluster.change(w, words[1:])
		return nil
	}
	switch line {
	case "time passes":
		w.later += time.Minute
		return nil
	case "time goes back":
		w.later -= 24 * time.Hour
		return nil
	}
	err := w.do(words[0], words[1:])
	if w.blind {
		if err != nil {
			w.t.Log(line, "!", err)
		}
		return nil
	}
	reason, text, _ := strings.Cut(want, " ")
	switch {
	case fails && (err == nil || reason != "else" && !errors.Is(err, reasons[reason]) || !strings.Contains(err.Error(), text)):
		return fmt.Errorf("%v, want %q", err, want)
	case !fails && err != nil:
		return err
	case fails:
		w.t.Log(line, "! ", err)
	}
	return nil
}

// play plays the lines of a story, and returns what the oracle has found.
func play(t *testing.T, c *etcdtest.Cluster, begin, lines string, blind bool) []string {
	w := &world{t: t, c: c, cluster: clusterState{begin: begin}, prefix: c.Prefix(), blind: blind, players: map[string]*player{}, oracle: oracle{signed: map[int64]string{}}}
	defer func() {
		for _, p := range w.players {
			p.stop()
		}
		w.cluster.mend(w)
	}()
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		start := time.Now()
		if err := w.line(line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Logf("%v: %s", d, line)
		}
	}
	return w.oracle.found
}

// TestFaults plays what happens to members, certificates, disks and connections,
// TestRestores what happens when the cluster is set back, and TestMembers what happens when
// members come and go, each on a cluster.
func TestFaults(t *testing.T) { stories(t, "testdata/faults.txt") }

func TestRestores(t *testing.T) { stories(t, "testdata/restores.txt") }

func TestMembers(t *testing.T) { stories(t, "testdata/members.txt") }

// TestUpdate updates etcd to the next line, one member after the other, under two signers.
// `make test-peers` has the lines.
func TestUpdate(t *testing.T) {
	if nextLine[os.Getenv("PRIVYSEAL_ETCD_LINE")] == "" {
		t.Skip("PRIVYSEAL_ETCD_LINE names no line that has a next one")
	}
	stories(t, "testdata/update.txt")
}

// stories plays a file of stories on one cluster. The oracle must find nothing, except in
// what doc/threat-model.md names as a limit, a story with (limit): there it must find
// something. Where a story says so, it must find a double sign as soon as no engine shows where the cluster
// stands: it can be the fence alone that prevents it.
func stories(t *testing.T, file string) {
	t.Parallel()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := etcdtest.Start(t, etcdtest.Options{Flags: []string{"--quota-backend-bytes=4194304"}})
	begin := c.Snapshot(t)
	for story := range strings.SplitSeq(string(raw), "\nstory ") {
		name, lines, _ := strings.Cut(story, "\n")
		if strings.HasPrefix(name, "#") {
			continue
		}
		name, bumps := strings.CutSuffix(name, " (bump)")
		name, fenced := strings.CutSuffix(name, " (fence)")
		name, limit := strings.CutSuffix(name, " (limit)")
		if bumps && !c.CanBump() {
			t.Logf("%s: not with etcd %s", name, c.Version)
			continue
		}
		t.Run(name, func(t *testing.T) {
			if found := play(t, c, begin, lines, false); (len(found) > 0) != limit {
				t.Errorf("the oracle: %q", found)
			} else if limit {
				t.Log(found)
			}
		})
		if fenced {
			t.Run(name+" without a fence", func(t *testing.T) {
				found := play(t, c, begin, lines, true)
				if len(found) == 0 {
					t.Error("the oracle finds nothing: the story does not need the fence")
				}
				t.Log(found)
			})
		}
	}
}
