package sharedmark

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"privyseal/internal/watermark"
)

// The model: several signers, each the real Store under the real rule, share a database and
// have a floor each. At each call of the engine or of a floor, and before each signature, a
// signer stops, and the world decides what happens next: who goes on and how his call
// ends, who is killed and started again, which transaction of earlier arrives now, whether the
// database is restored, to which of its states. All of that is tried, in every order, with
// few of each. What two orders have made the same is looked at once.

// modelWorld is what is tried, and how the protocol is broken, if it is.
type modelWorld struct {
	name     string
	signers  int
	requests int // of each signer: the heights from 1, each signer with bytes of its own
	faults   int // calls that fail
	crashes  int
	restores int
	// adopted: an operator adopts a restored database at once, on the host whose floor is the
	// highest, while no signer signs. By then it has done more than anybody has seen of it
	// before: the fence is blind.
	adopted bool

	broken func(*modelProcess)
	// revisionOnly makes the database compare revisions alone.
	revisionOnly bool

	want string // "" if it is safe, or what has to be found
	// long: it takes most of a minute, and finds no mutant that the others do not.
	long bool
}

var modelWorlds = []modelWorld{
	{name: "two signers, faults and a crash", signers: 2, requests: 2, faults: 1, crashes: 1},
	{name: "two signers, two faults", signers: 2, requests: 1, faults: 2, crashes: 1},
	{name: "two signers, a restore", signers: 2, requests: 2, faults: 0, crashes: 1, restores: 1},
	{name: "two signers, a restore, a fault and a crash", signers: 2, requests: 1, faults: 1, crashes: 1, restores: 1},
	{name: "two signers, a restore that is adopted", signers: 2, requests: 2, faults: 0, crashes: 1, restores: 1, adopted: true},
	{name: "three signers", signers: 3, requests: 1, faults: 1, crashes: 0, restores: 1},
	{name: "three signers, a crash", signers: 3, requests: 1, faults: 0, crashes: 1, restores: 1, long: true},

	{name: "broken: floor and swap at the same time", signers: 2, requests: 1, faults: 1, broken: floorInParallel, want: "false alarm"},
	{name: "broken: no fence", signers: 2, requests: 1, restores: 1, broken: noFence, want: "double sign"},
	{name: "broken: revision alone", signers: 2, requests: 2, restores: 1, adopted: true, revisionOnly: true, want: "double sign"},
	{name: "broken: an unknown outcome is taken for a success", signers: 2, requests: 1, faults: 1, broken: guess, want: "double sign"},
}

func TestSharedModel(t *testing.T) {
	for _, w := range modelWorlds {
		t.Run(w.name, func(t *testing.T) {
			if w.want == "" && !w.adopted && !largeWorlds {
				t.Skip("the race detector makes it ten times as long; `go test ./internal/sharedmark` has it, as `make unit` does")
			}
			if w.long && testing.Short() {
				t.Skip("it is long")
			}
			start := time.Now()
			states, runs, found := w.explore()
			t.Logf("%d states, %d runs, %v", states, runs, time.Since(start))
			if !strings.HasPrefix(found, w.want) || w.want == "" && found != "" {
				t.Errorf("found %q, want %q", found, w.want)
			}
		})
	}
}

func floorInParallel(p *modelProcess) { p.floorFirst = true }

func noFence(p *modelProcess) { p.store.trusts = true }

func guess(p *modelProcess) { p.guesses = true }

// explore tries everything, depth first: each run repeats the decisions of the last one, up
// to the last that had another way.
func (w *modelWorld) explore() (states, runs int, found string) {
	seen := map[[32]byte]bool{}
	var path []decision
	for {
		runs++
		m := newModel(w)
		found = m.run(&path, seen)
		m.end()
		if found != "" {
			var trace strings.Builder
			for _, d := range path {
				fmt.Fprintf(&trace, "\n\t%s", d.what)
			}
			return len(seen), runs, found + trace.String()
		}
		for len(path) > 0 && path[len(path)-1].n == path[len(path)-1].of-1 {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return len(seen), runs, ""
		}
		path[len(path)-1].n++
	}
}

// decision is one that was made: number n of several.
type decision struct {
	n, of int
	what  string
}

// model is one run of a world.
type model struct {
	*modelWorld
	db        At
	revision  uint64
	index     uint64
	history   []At // every state of the database
	life      int
	late      []modelSwap
	processes []*modelProcess
	ledger    map[int64]string // height: what was signed there
	alarm     string
}

type modelSwap struct {
	old   At
	value []byte
}

// modelProcess is a signer that runs, of a host that stays.
type modelProcess struct {
	m       *model
	host    int
	born    int // how many there were on the host before
	floor   *watermark.Saved
	store   *Store
	request int    // the next one
	pending string // what it stops at
	done    bool

	life    int // of the database when the way was made; -1: there is no way
	randoms int
	past    [32]byte // what it has seen since its last request
	next    func() (string, bool)
	stop    func()
	yield   func(string) bool
	outcome modelOutcome

	floorFirst, guesses bool
}

type modelOutcome int

const (
	goesWell     modelOutcome = iota
	isLost                    // it never arrives
	isUnanswered              // it is done, the answer is lost
	isLate                    // the answer is lost, and it is done later, or never
	isDoubled                 // the answer is lost; it is done now, and arrives once more later
)

var errModel = errors.New("the model's call failed")

var modelID = watermark.ID{ChainID: "model", Key: [32]byte{1}}

// killed unwinds a process.
type killed struct{}

func newModel(w *modelWorld) *model {
	m := &model{modelWorld: w, index: 100, revision: 1, history: []At{{}}, ledger: map[int64]string{}}
	for host := range w.signers {
		p := &modelProcess{m: m, host: host, floor: &watermark.Saved{Version: 1}}
		command := (*Store).join
		if host == 0 {
			command = func(s *Store, ctx context.Context) error {
				return s.create(ctx, watermark.Saved{Time: time.Unix(1, 0)})
			}
		}
		p.operate(command)
		m.processes = append(m.processes, p)
		p.start()
	}
	return m
}

func (m *model) end() {
	for _, p := range m.processes {
		p.stop()
	}
}

// operate runs an operator's command on the host of p.
func (p *modelProcess) operate(command func(*Store, context.Context) error) {
	o := &modelProcess{m: p.m, host: p.host, born: 1000 + p.born, floor: p.floor, life: -1}
	if err := command(o.newStore(), context.Background()); err != nil {
		panic(err)
	}
}

// newStore returns a store whose time stands still and whose random bytes come again in
// each run.
func (p *modelProcess) newStore() *Store {
	s := New(Config{ID: modelID, Engine: p, Floor: modelFloor{p}})
	s.now, s.pause, s.random = func() time.Time { return time.Unix(1, 0) }, func(context.Context, int) {}, p.random
	s.random(s.process[:])
	return s
}

func (p *modelProcess) random(b []byte) (int, error) {
	p.randoms++
	sum := sha256.Sum256(fmt.Append(nil, p.host, p.born, p.randoms))
	return copy(b, sum[:]), nil
}

// start begins a process, which asks for its request again.
func (p *modelProcess) start() {
	p.life, p.randoms, p.past = -1, 0, [32]byte{}
	p.store = p.newStore()
	if p.m.broken != nil {
		p.m.broken(p)
	}
	p.next, p.stop = iter.Pull(func(yield func(string) bool) {
		defer func() {
			if r := recover(); r != nil && r != any(killed{}) {
				panic(r)
			}
		}()
		p.yield = yield
		p.work()
		p.yield = nil
	})
	p.advance()
}

func (p *modelProcess) advance() {
	what, ok := p.next()
	p.pending, p.done = what, !ok
}

// at stops until the world has decided how what comes next ends.
func (p *modelProcess) at(what string) modelOutcome {
	if p.yield == nil {
		return goesWell // an operator's command
	}
	if !p.yield(what) {
		panic(killed{})
	}
	return p.outcome
}

// note adds to what the process has seen.
func (p *modelProcess) note(what ...any) {
	p.past = sha256.Sum256(fmt.Append(p.past[:], what...))
}

// work is the signer: the protocol of package signer in few words.
func (p *modelProcess) work() {
	ctx := context.Background()
	var last watermark.Saved
	loaded := false
	for ; p.request < p.m.requests; p.request++ {
		h := int64(p.request + 1)
		req := watermark.Mark{Height: h, Step: watermark.StepPrecommit, SignBytes: fmt.Appendf(nil, "signer %d at %d", p.host, h)}
		for range 3 {
			if !loaded {
				saved, err := p.store.Load(ctx)
				if err != nil {
					p.failed(err)
					continue
				}
				last, loaded = saved, true
			}
			m, isNew, err := watermark.Next(last.Mark, req)
			if err != nil {
				break
			}
			if isNew {
				saved, err := p.store.Replace(ctx, last, m)
				if p.guesses && err != nil && !errors.Is(err, watermark.ErrMoved) {
					saved, err = watermark.Saved{Mark: m, Version: last.Version + 1}, nil
				}
				if err != nil {
					loaded = false
					p.failed(err)
					continue
				}
				last = saved
			}
			p.at("sign")
			p.m.sign(m)
			break
		}
		p.rest(loaded)
	}
}

// rest forgets how the process came to know what it knows.
func (p *modelProcess) rest(loaded bool) {
	s := p.store
	f := s.floor
	f.position.Index = 0
	p.past = [32]byte{}
	p.note(loaded, string(f.encode()), s.kept.Version, s.known, s.fenced, s.ready, s.base.name(), s.first, s.lost.name())
}

// name returns the revision and the nonce.
func (a At) name() string {
	if a.Value == nil {
		return "none"
	}
	return fmt.Sprint(a.Revision) + string(a.Value[64:80])
}

// failed notes a false alarm: where nothing was restored, only what passes may fail.
func (p *modelProcess) failed(err error) {
	final := errors.Is(err, ErrRestored) || errors.Is(err, ErrTwin) || errors.Is(err, ErrMissing) || errors.Is(err, ErrExported)
	if final && p.m.life == 0 {
		p.m.alarm = "false alarm: " + err.Error()
	}
}

func (m *model) sign(mark watermark.Mark) {
	if before, ok := m.ledger[mark.Height]; ok && before != string(mark.SignBytes) {
		m.alarm = fmt.Sprintf("double sign at %d: %q and %q", mark.Height, before, mark.SignBytes)
	}
	m.ledger[mark.Height] = string(mark.SignBytes)
}

// run makes the decisions of path, and then the first of each, up to the end or what was
// seen before.
func (m *model) run(path *[]decision, seen map[[32]byte]bool) string {
	faults, crashes, restores := m.faults, m.crashes, m.restores
	for n := 0; ; n++ {
		if m.alarm != "" {
			*path = (*path)[:n]
			return m.alarm
		}
		if n >= len(*path) {
			key := m.key(faults, crashes, restores)
			if seen[key] {
				return ""
			}
			seen[key] = true
		}
		choices := m.choices(faults, crashes, restores)
		if len(choices) == 0 {
			return ""
		}
		if n == len(*path) {
			*path = append(*path, decision{of: len(choices)})
		}
		c := choices[(*path)[n].n]
		(*path)[n].what = c.what
		faults, crashes, restores = faults-c.faults, crashes-c.crashes, restores-c.restores
		c.do()
	}
}

// signs reports whether a signer is between the acknowledgement and its signature. An
// operator does not adopt then: no store could keep it from signing.
func (m *model) signs() bool {
	for _, p := range m.processes {
		if p.pending == "sign" || p.pending == "floor" {
			return true
		}
	}
	return false
}

type choice struct {
	what                      string
	faults, crashes, restores int
	do                        func()
}

func (m *model) choices(faults, crashes, restores int) (list []choice) {
	for _, p := range m.processes {
		if p.done {
			continue
		}
		last := goesWell
		if faults > 0 && p.pending != "sign" && p.pending != "floor" {
			last = isLost
		}
		if faults > 0 && p.pending == "swap" {
			last = isDoubled
		}
		for o := goesWell; o <= last; o++ {
			list = append(list, choice{what: fmt.Sprintf("signer %d: %s, outcome %d", p.host, p.pending, o), faults: min(int(o), 1), do: func() { p.outcome = o; p.advance() }})
		}
		if crashes > 0 {
			list = append(list, choice{what: fmt.Sprintf("signer %d is killed before %s", p.host, p.pending), crashes: 1, do: p.restart})
		}
	}
	for i := range m.late {
		list = append(list, choice{what: "a late transaction arrives", do: func() {
			l := m.late[i]
			m.late = append(append([]modelSwap(nil), m.late[:i]...), m.late[i+1:]...)
			m.swap(l.old, l.value)
		}})
	}
	if restores > 0 && !(m.adopted && m.signs()) {
		for i := 1; i < len(m.history)-1; i++ {
			list = append(list, choice{what: fmt.Sprintf("the database is restored to revision %d", m.history[i].Revision), restores: 1, do: func() { m.restore(m.history[i]) }})
		}
	}
	return list
}

func (p *modelProcess) restart() {
	p.stop()
	p.born++
	p.start()
}

// restore puts an earlier state back. All ways are broken, and what was under way is lost.
func (m *model) restore(to At) {
	m.db, m.revision, m.late = to, max(to.Revision, 1), nil
	m.life++
	m.index = 1
	if m.adopted {
		m.index = 1000
		highest, top := m.processes[0], floor{}
		for _, p := range m.processes {
			if f, _ := decodeFloor(p.floor.Mark); top.mark.Less(f.mark) {
				highest, top = p, f
			}
		}
		highest.stop()
		highest.operate((*Store).adopt)
		highest.restart()
	}
}

func (m *model) swap(old At, value []byte) (At, bool) {
	m.index++
	same := old.Revision == m.db.Revision && (m.revisionOnly || bytes.Equal(old.Value, m.db.Value))
	if !same {
		return m.db, false
	}
	m.index++
	m.revision++
	m.db = At{value, m.revision}
	m.history = append(m.history, m.db)
	return m.db, true
}

// key names all that what comes next depends on.
func (m *model) key(faults, crashes, restores int) [32]byte {
	h := sha256.New()
	fmt.Fprint(h, faults, crashes, restores, m.db.name(), m.revision, m.life, m.ledger)
	for _, l := range m.late {
		fmt.Fprint(h, l.old.name(), At{Value: l.value}.name())
	}
	if restores > 0 {
		for _, at := range m.history {
			fmt.Fprint(h, at.name())
		}
	}
	for _, p := range m.processes {
		f, _ := decodeFloor(p.floor.Mark)
		f.position.Index = 0
		fmt.Fprint(h, p.born, p.request, p.done, p.pending, p.life, string(p.past[:]), string(f.encode()), p.floor.Version)
	}
	return [32]byte(h.Sum(nil))
}

// Ready implements [Engine]. That a way is broken it does not notice.
func (p *modelProcess) Ready(context.Context) (Position, bool, error) {
	if p.life >= 0 {
		return Position{}, false, nil
	}
	if p.at("ready") != goesWell {
		p.note("unready")
		return Position{}, false, errModel
	}
	p.life = p.m.life
	p.note("ready", p.life)
	return Position{Medium: [16]byte{1}, Index: p.m.index, Revision: p.m.revision, Term: 1, Members: []uint64{1, 2, 3}}, true, nil
}

// call ends a call of Read or Swap. The way is gone after an error.
func (p *modelProcess) call(what string) (o modelOutcome) {
	o = p.at(what)
	if p.life != p.m.life {
		o = isLost
	}
	if o != goesWell {
		p.life = -1
	}
	return o
}

// Read implements [Engine].
func (p *modelProcess) Read(context.Context) (At, error) {
	if p.call("read") != goesWell {
		p.note("unread")
		return At{}, errModel
	}
	p.note("read", p.m.db.name())
	return p.m.db, nil
}

// Swap implements [Engine].
func (p *modelProcess) Swap(ctx context.Context, old At, value []byte) (now At, won bool, err error) {
	if p.floorFirst {
		r, _ := decode(value, nil)
		p.store.floor.raise(&r, old.Revision+1)
		p.store.keepFloor(ctx)
	}
	o := p.call("swap")
	if o == goesWell || o == isUnanswered || o == isDoubled {
		now, won = p.m.swap(old, value)
	}
	if o == isLate || o == isDoubled {
		p.m.late = append(append([]modelSwap(nil), p.m.late...), modelSwap{old, value})
	}
	if o != goesWell {
		p.note("unknown")
		return At{}, false, errModel
	}
	p.note("swapped", now.name(), won)
	return now, won, nil
}

// Close implements [Engine].
func (p *modelProcess) Close() error {
	p.life = -1
	return nil
}

// modelFloor is where the floor of a process is.
type modelFloor struct{ p *modelProcess }

func (f modelFloor) Load(context.Context) (watermark.Saved, error) { return *f.p.floor, nil }

func (f modelFloor) Replace(_ context.Context, old watermark.Saved, m watermark.Mark) (watermark.Saved, error) {
	f.p.at("floor")
	now := watermark.Saved{Mark: m, Version: old.Version + 1}
	*f.p.floor = now
	return now, nil
}

func (f modelFloor) Close() error { return nil }
