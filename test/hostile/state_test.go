package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"privyseal/internal/hostlink"
	"privyseal/internal/watermark"
)

// signsOn shows that an honest host with this disk works again: a node is served,
// and signed for from height on.
func (e *running) signsOn(v *validator, d *disk, height int64) {
	e.w.t.Helper()
	e.meet(e.w.honest(d))
	if s := e.boot(v); s.Problem != "" {
		e.w.t.Fatalf("with an honest host: %s", s.Problem)
	}
	n := e.eventually(e.node(v), height, 1)
	n.refuses(height, 2)
	n.signs(height+1, 1)
}

// under boots v with a notary for its host, who holds this record, and returns a node
// that is served.
func (e *running) under(v *validator, record []byte) (*notary, *node) {
	e.w.t.Helper()
	notary := newNotary(v)
	notary.put(v, record)
	h := e.w.honest(nil)
	h.state = notary.serve
	e.meet(h)
	if s := e.boot(v); s.Problem != "" {
		e.w.t.Fatal(s.Problem)
	}
	return notary, e.node(v)
}

// eventually asks as a node does, again on the next connection, until the block is
// signed.
func (e *running) eventually(n *node, height int64, block byte) *node {
	e.w.t.Helper()
	n.write(height, block)
	return e.answered(n, height, block)
}

// answered waits for the signature that n has asked for.
func (e *running) answered(n *node, height int64, block byte) *node {
	e.w.t.Helper()
	for end := time.Now().Add(patience); ; {
		signed, err := n.read(height, block)
		if err == nil && signed {
			return n
		}
		if err == nil || time.Now().After(end) {
			e.w.t.Fatalf("height %d, block %d: signed %v, %v", height, block, signed, err)
		}
		n = e.node(n.v)
		n.write(height, block)
	}
}

// unanswered checks that no answer has come so far.
func (n *node) unanswered() {
	n.e.w.t.Helper()
	n.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	if b, err := n.r.Peek(1); err == nil {
		n.e.w.t.Fatalf("answered without an acknowledgement: %x…", b)
	}
	n.conn.SetReadDeadline(time.Now().Add(patience))
}

// State that is forged, foreign, cut off or missing at boot: the chain does not
// sign, the operator learns of it, and the right state repairs it.
func TestWrongStateAtBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v, other := e.create(chainID), e.create("chain-2")
	again := e.create(chainID) // another key, the same chain
	wrong := map[string][]byte{
		"another chain's": other.first, "another key's": again.first, "garbage": []byte("garbage"), "empty": {},
		"cut off": v.first[:len(v.first)-1], "longer": append(bytes.Clone(v.first), 0), "as long as a frame may be": make([]byte, 900),
	}
	for i := range v.first {
		flipped := bytes.Clone(v.first)
		flipped[i] ^= 1 << (i % 8)
		wrong[fmt.Sprintf("byte %d flipped", i)] = flipped
	}
	n := newNotary()
	h := w.honest(nil)
	h.state = n.serve
	e.meet(h)
	for name, record := range wrong {
		n.put(v, record)
		if s := e.boot(v); !strings.Contains(s.Problem, "does not authenticate") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	n.tell(func([]byte, string, func() []byte) ([][]byte, bool) { return [][]byte{[]byte("Eno such state")}, true })
	if s := e.boot(v); !strings.Contains(s.Problem, "no such state") {
		t.Errorf("missing: %+v", s)
	}
	if len(h.dialled(chainID)) > 0 {
		t.Error("a node was dialled for a chain that cannot sign")
	}
	e.signsOn(v, newDisk(t, v), 1)
}

// instead returns a lie about acknowledgements: what comes in the place of one, and
// whether the record is stored all the same.
func instead(stored bool, answers func(put []byte) [][]byte) lie {
	return func(frame []byte, _ string, truth func() []byte) ([][]byte, bool) {
		if frame[0] != 'P' {
			return [][]byte{truth()}, false
		}
		if stored {
			truth()
		}
		a := answers(frame[1:])
		return a, len(a) == 0
	}
}

func say(answers ...[]byte) func([]byte) [][]byte {
	return func([]byte) [][]byte { return answers }
}

// Whatever a host answers in place of an acknowledgement, nothing is signed; and
// when it is honest again the same request is, and no other.
func TestAcknowledgements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v, other := e.create(chainID), e.create("chain-2")
	notary, n := e.under(v, v.first)
	height := int64(1)
	for name, answers := range map[string]func(put []byte) [][]byte{
		"dropped":             say(),
		"of another record":   say(framed('A', v.first)),
		"of another chain":    say(framed('A', other.first)),
		"of nothing":          say([]byte("A")),
		"cut off":             func(put []byte) [][]byte { return [][]byte{framed('A', put[:len(put)-1])} },
		"longer":              func(put []byte) [][]byte { return [][]byte{framed('A', append(bytes.Clone(put), 0))} },
		"a bit flipped":       func(put []byte) [][]byte { a := framed('A', put); a[len(a)-1] ^= 1; return [][]byte{a} },
		"as a current record": func(put []byte) [][]byte { return [][]byte{framed('R', put)} },
		"an empty frame":      say([]byte{}),
		"an oversize frame":   say(framed('A', make([]byte, 1<<20))),
		"garbage":             say([]byte("garbage")),
		"an error":            say([]byte("Eno space left on device")),
		"moved, to the first": say(framed('M', v.first)),
		"moved, to another's": say(framed('M', other.first)),
		"moved, to garbage":   say([]byte("Mgarbage")),
		"moved, to nothing":   say([]byte("M")),
	} {
		for _, stored := range []bool{false, true} {
			height++
			notary.tell(instead(stored, answers))
			n.write(height, 1)
			notary.wait(t, 3)
			n.unanswered()
			notary.tell(nil)
			n = e.answered(n, height, 1)
			n.refuses(height, 2)
			if t.Failed() {
				t.Fatalf("after %q, stored %v", name, stored)
			}
		}
	}
	notary.numbered(t, v)
	d := newDisk(t)
	d.write(t, v, notary.newest(v))
	e.signsOn(v, d, height+1)
}

// An acknowledgement that comes late holds up the signature, one that comes twice
// is not taken for that of the next record, and one that never comes costs the
// request until another host is there.
func TestAcknowledgementsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	notary, n := e.under(v, v.first)
	n.signs(1, 1)

	notary.tell(func(frame []byte, open string, truth func() []byte) ([][]byte, bool) {
		before := notary.current[open]
		a := truth()
		if frame[0] == 'P' && !bytes.Equal(frame[1:], before) {
			return [][]byte{a, a}, false
		}
		return [][]byte{a}, false
	})
	for height := range int64(5) {
		n = e.eventually(n, height+2, 1)
		n.refuses(height+2, 2)
	}

	// Silence. The lie holds the notary's lock, as a disk that hangs would.
	release := make(chan struct{})
	notary.tell(func(_ []byte, _ string, truth func() []byte) ([][]byte, bool) {
		notary.lied <- struct{}{}
		<-release
		return [][]byte{truth()}, false
	})
	n.write(7, 1)
	notary.wait(t, 1)
	n.unanswered()
	close(release)
	n = e.answered(n, 7, 1)
	n.refuses(7, 2)

	notary.tell(func([]byte, string, func() []byte) ([][]byte, bool) { return nil, false })
	n.write(8, 1)
	notary.wait(t, 1)
	n.unanswered()
	notary.numbered(t, v)
	d := newDisk(t)
	d.write(t, v, notary.newest(v))
	e.meet(w.honest(d))
	n = e.eventually(e.node(v), 8, 1)
	n.refuses(8, 2)
}

// A lie about one chain is nothing to the other.
func TestAcknowledgementsOfTwoChains(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	a, b := e.create(chainID), e.create("chain-2")
	notary := newNotary(a, b)
	h := w.honest(nil)
	h.state = notary.serve
	e.meet(h)
	var last []byte
	notary.tell(func(frame []byte, open string, truth func() []byte) ([][]byte, bool) {
		answer := truth()
		if open == opening(b) {
			return [][]byte{answer}, false
		}
		if frame[0] == 'P' && last != nil {
			last, answer = answer, last // late by one
		} else if frame[0] == 'P' {
			last = answer
		}
		return [][]byte{answer}, false
	})
	e.boot(b)
	n := e.node(b)
	e.boot(a)
	for height := range int64(20) {
		n.signs(height+1, 1)
	}
	notary.tell(nil)
	d := newDisk(t, b)
	d.write(t, a, notary.newest(a))
	d.write(t, b, notary.newest(b))
	e.signsOn(a, d, 1)
}

// twins boots two enclaves for v, each with a notary of its own.
func (w *world) twins(v *validator) (es [2]*running, notaries [2]*notary, nodes [2]*node) {
	w.t.Helper()
	for i := range es {
		es[i] = w.boot(w.honest(nil))
		notaries[i], nodes[i] = es[i].under(v, v.first)
	}
	return es, notaries, nodes
}

// Two enclaves on one state with an honest host: each height is signed once,
// whoever is asked, and both go on.
func TestTwinsOnAnHonestHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	twin := w.boot(w.honest(d))
	e.meet(w.honest(d))
	e.boot(v)
	twin.boot(v)
	nodes := []*node{e.node(v), twin.node(v)}
	for height := range int64(30) {
		first := rand.IntN(2)
		signed := 0
		for _, i := range []int{first, 1 - first} {
			if nodes[i].prevote(height+1, byte(i)) {
				signed++
			}
		}
		if signed != 1 {
			t.Fatalf("height %d is signed %d times", height+1, signed)
		}
	}
	if a, b := e.attest(v), twin.attest(v); a.Boot == b.Boot {
		t.Errorf("two enclaves, one boot: %+v, %+v", a, b)
	}
}

// Two enclaves, each with a copy of the state by a host that lies: what the threat
// model says. Each is consistent with itself; together they are not, and the
// documents show it: two boots with the same beginning, and with other blocks at the
// same mark.
func TestTwinsOnALyingHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	e.halt()
	es, notaries, nodes := w.twins(v)
	for height := range int64(5) {
		for i, n := range nodes {
			n.signs(height+1, byte(i+1))
			n.refuses(height+1, byte(2-i))
		}
	}
	a, b := es[0].attest(v), es[1].attest(v)
	if a.Boot == b.Boot || a.Seq != b.Seq || a.Start != b.Start {
		t.Errorf("the documents of twins:\n%+v\n%+v", a, b)
	}
	contradict(t, a.Mark, b.Mark)

	// Each gets what the other has written. The same number and the same mark, or a
	// higher number: neither takes back what it has signed.
	nodes[1].signs(6, 2)
	newest := notaries[1].newest(v)
	nodes[1].signs(7, 2)
	for i, theirs := range [][]byte{newest, v.first} {
		notaries[0].tell(instead(false, say(framed('M', theirs))))
		nodes[0].write(6+int64(i), 1)
		notaries[0].wait(t, 3)
		nodes[0].conn.Close()
		notaries[0].tell(nil)
		nodes[0] = es[0].node(v)
		nodes[0].refuses(5, 2)
	}
}

// A twin's record at the very mark that an enclave has signed other bytes for is no
// state of its own, and does not stick: the enclave refuses it, and goes on from
// what it has when the host does.
func TestTwinsRecordAtTheSameMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	e.halt()
	es, notaries, nodes := w.twins(v)
	nodes[0].signs(5, 1)
	nodes[1].signs(4, 2)
	nodes[1].signs(5, 2) // the same mark, a higher number
	theirs := notaries[1].newest(v)
	notaries[0].tell(func(frame []byte, _ string, truth func() []byte) ([][]byte, bool) {
		if frame[0] == 'O' {
			return [][]byte{truth()}, false
		}
		return [][]byte{framed('M', theirs)}, false
	})
	nodes[0].write(6, 1)
	notaries[0].wait(t, 4)
	nodes[0].unanswered()
	notaries[0].tell(nil)
	nodes[0] = es[0].answered(nodes[0], 6, 1)
	nodes[0].refuses(5, 2)
	d := newDisk(t)
	d.write(t, v, notaries[0].newest(v))
	es[0].signsOn(v, d, 7)
}

// A host that replays an old record at boot, which nothing inside can notice: what the
// threat model says. The documents show it: the new boot begins below what the last
// one had attested.
func TestReplayAtBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	d := newDisk(t, v)
	e.meet(w.honest(d))
	e.boot(v)
	n := e.node(v)
	for height := range int64(10) {
		n.signs(height+1, 1)
	}
	before := e.attest(v)
	e.halt()

	// The honest way first: the state of before.
	e = w.boot(w.honest(d))
	e.boot(v)
	if now := e.attest(v); now.Start != before.Mark || now.Seq != before.Seq || now.Boot == before.Boot || now.Mark != before.Mark {
		t.Errorf("after an honest restart: %+v, before it %+v", now, before)
	}
	e.node(v).refuses(10, 2)
	e.halt()

	e = w.boot(w.honest(newDisk(t, v)))
	e.boot(v)
	n = e.node(v)
	for height := range int64(20) {
		n.signs(height+1, 2)
	}
	// Also after it has signed far more than was lost.
	now := e.attest(v)
	if now.Start != (watermark.Mark{}).String() || now.Boot == before.Boot {
		t.Errorf("a replay does not show: %+v, before it %+v", now, before)
	}
	if now.Seq <= before.Seq {
		t.Errorf("sequence %d after 20 heights, %d before", now.Seq, before.Seq)
	}
}

// contradict checks that two marks of documents are at one height, round and step,
// and name different blocks there.
func contradict(t *testing.T, a, b string) {
	t.Helper()
	cut := func(mark string) string { return mark[:max(0, strings.LastIndexByte(mark, '/'))] }
	if a == b || cut(a) != cut(b) || strings.Count(a, "/") != 3 {
		t.Errorf("the marks %s and %s do not contradict each other", a, b)
	}
}

// ghost returns a record of block 1 at the height that v's enclave has sent and not
// signed, since the host answered as it pleases.
func (n *notary) ghost(t *testing.T, nd *node, height int64, answers ...[]byte) []byte {
	t.Helper()
	n.tell(instead(false, say(answers...)))
	nd.write(height, 1)
	n.wait(t, 1)
	return n.newest(nd.v)
}

// A record that was sent and never acknowledged is the host's to keep, and at a later
// boot it authenticates. Within the boot nothing else is signed in its place,
// whatever the host says of it.
func TestNothingInTheGhostsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	notary, n := e.under(v, v.first)
	n.signs(3, 1)
	older := notary.newest(v)
	for i, lie := range [][]byte{[]byte("Mgarbage"), framed('M', older), []byte("Eno")} {
		height := int64(4 + i)
		notary.ghost(t, n, height, lie)
		// The node gives up, and another block is asked for.
		if _, err := n.read(height, 1); err == nil {
			t.Fatal("answered without an acknowledgement")
		}
		notary.tell(nil)
		n = e.node(v)
		n.refuses(height, 2)
		n.signs(height, 1)
	}
}

// A ghost of one boot, brought back after another boot has signed another block at
// the same height, round and step: heights alone look as after an honest restart.
// The tags of the marks show it.
func TestGhostAtBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.boot(w.honest(nil))
	v := e.create(chainID)
	notary, n := e.under(v, v.first)
	n.signs(3, 1)
	honest := notary.newest(v)
	ghost := notary.ghost(t, n, 4)
	e.halt()

	e = w.boot(w.honest(nil))
	_, n = e.under(v, honest)
	n.signs(4, 2)
	before := e.attest(v)
	e.halt()

	e = w.boot(w.honest(nil))
	_, n = e.under(v, ghost)
	n.signs(4, 1) // which nothing inside can notice
	n.signs(5, 1)
	n.signs(6, 1)
	now := e.attest(v)
	if now.Seq <= before.Seq || now.Boot == before.Boot {
		t.Errorf("the documents: %+v, then %+v", before, now)
	}
	contradict(t, before.Mark, now.Start)
}

// A host that lies at random, with all records that two enclaves have ever made:
// neither ever contradicts itself, and an honest host makes both sign again after a
// restart.
func TestLyingAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(rounds(4, 1)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			maker := w.boot(w.honest(nil))
			v := maker.create(chainID)
			maker.halt()
			es, notaries, nodes := w.twins(v)
			rng, lies := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			shared := [][]byte{v.first}
			for _, n := range notaries {
				n.tell(randomLie(lies, n, notaries[0], &shared))
			}
			signed, top := 0, [2]int64{}
			for range 120 {
				i := rng.IntN(2)
				height, block := max(1, top[i]+rng.Int64N(4)-1), byte(rng.IntN(3))
				nodes[i].write(height, block)
				nodes[i].conn.SetReadDeadline(time.Now().Add(time.Duration(rounds(50, 250)) * time.Millisecond))
				ok, err := nodes[i].read(height, block)
				if err != nil {
					nodes[i].conn.Close()
					nodes[i] = es[i].node(v)
				}
				if ok {
					signed++
					top[i] = max(top[i], height)
				}
			}
			if signed == 0 {
				t.Error("nothing was signed at all: this proves nothing")
			}
			newest := notaries[0].newest(v)
			for i, n := range notaries {
				n.numbered(t, v)
				if r := n.newest(v); seq(r) > seq(newest) {
					newest = r
				}
				es[i].halt()
			}
			d := newDisk(t)
			d.write(t, v, newest)
			w.boot(w.honest(d)).signsOn(v, d, heightOf(t, newest)+1)
		})
	}
}

func heightOf(t *testing.T, record []byte) int64 {
	t.Helper()
	r, err := hostlink.ReadRecord(record)
	if err != nil {
		t.Fatal(err)
	}
	return r.Mark.Height
}

// randomLie returns a lie that is the truth now and then. All lies of a world share
// their lock and their records.
func randomLie(rng *rand.Rand, n, all *notary, shared *[][]byte) lie {
	return func(frame []byte, open string, truth func() []byte) ([][]byte, bool) {
		if n != all {
			all.mu.Lock()
			defer all.mu.Unlock()
		}
		if frame[0] == 'P' {
			*shared = append(*shared, frame[1:])
		}
		any := (*shared)[rng.IntN(len(*shared))]
		switch rng.IntN(10) {
		case 0:
			return nil, true
		case 1:
			truth()
			return nil, true
		case 2:
			return [][]byte{framed("RAM"[rng.IntN(3)], any)}, false
		case 3:
			return [][]byte{framed('M', any)}, false
		case 4:
			n.current[open] = any // a disk that is exchanged
			return [][]byte{truth()}, false
		case 5:
			a := truth()
			return [][]byte{a, a}, false
		}
		return [][]byte{truth()}, false
	}
}
