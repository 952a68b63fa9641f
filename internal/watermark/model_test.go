package watermark_test

import (
	"fmt"
	"slices"
	"testing"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

// allValues is every value of a message at one position: nil and two blocks,
// one of them in two cuts, timestamps and, for proposals, rounds of the lock.
func allValues(height int64, round int32, step watermark.Step) (ms []watermark.Mark) {
	for _, second := range []int64{0, 1} {
		for _, block := range []string{"A", "A'", "B"} {
			ms = append(ms, message(height, round, step, block, second, -1))
		}
		if step == watermark.StepProposal {
			ms = append(ms, message(height, round, step, "A", second, 0))
		} else {
			ms = append(ms, message(height, round, step, "nil", second, 0))
		}
	}
	return ms
}

var steps = []watermark.Step{watermark.StepProposal, watermark.StepPrevote, watermark.StepPrecommit}

// TestRuleAgainstNaive compares the rule with the one below, for every last
// mark and every request within three heights and three rounds.
func TestRuleAgainstNaive(t *testing.T) {
	lasts := []watermark.Mark{{}}
	var requests []watermark.Mark
	for height := int64(1); height <= 3; height++ {
		lasts = append(lasts, watermark.Floor(height))
		for round := range int32(3) {
			for _, step := range steps {
				lasts = append(lasts, watermark.Mark{Height: height, Round: round, Step: step})
				requests = append(requests, allValues(height, round, step)...)
			}
		}
	}
	lasts = append(lasts, requests...)
	for _, last := range lasts {
		for _, req := range requests {
			m, isNew, err := watermark.Next(last, req)
			got, want := outcome(m, isNew, err), naiveRule(t, last, req)
			if got != want {
				t.Fatalf("last %v %x\nrequest %v %x\ngot %q, want %q", last, last.SignBytes, req, req.SignBytes, got, want)
			}
			if err == nil && m.Less(last) {
				t.Fatalf("last %v, request %v: the mark falls to %v", last, req, m)
			}
		}
	}
}

// naiveRule is the rule once more, said in another way: it reads the messages
// back and compares their fields.
func naiveRule(t *testing.T, last, req watermark.Mark) string {
	position := func(m watermark.Mark) []int64 { return []int64{m.Height, int64(m.Round), int64(m.Step)} }
	was, is := position(last), position(req)
	if slices.Compare(is, was) > 0 {
		return "sign"
	}
	for i, name := range []string{"height", "round", "step"} {
		if is[i] < was[i] {
			return "refuse " + name + "_regression"
		}
	}
	if len(last.SignBytes) == 0 {
		return "refuse unknown_bytes"
	}
	before, after := parse(t, last), parse(t, req)
	if after.Kind != privval.KindProposal {
		before.Timestamp, after.Timestamp = privval.Timestamp{}, privval.Timestamp{}
	}
	if fmt.Sprint(before) != fmt.Sprint(after) {
		return "refuse conflict"
	}
	return "again"
}

func parse(t *testing.T, m watermark.Mark) privval.Request {
	t.Helper()
	r, err := privval.ParseSignBytes(m.SignBytes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestModel walks through everything that can happen to a signer in a small
// world: all requests in all orders, any number of times, with the process
// killed before the mark was durable, after that, or after the signature, and
// started again. It holds all states at once, each the durable mark and all
// signatures that ever left.
func TestModel(t *testing.T) {
	for _, w := range []struct {
		name            string
		heights, rounds int
		steps           []watermark.Step
		values          int
	}{
		{"one height, all values", 1, 2, steps, 4},
		{"two heights, all values", 2, 1, steps, 4},
		{"votes of two heights and rounds", 2, 2, steps[1:], 4},
		{"two heights and rounds, two values", 2, 2, steps, 2},
	} {
		t.Run(w.name, func(t *testing.T) {
			var messages []watermark.Mark
			for h := range w.heights {
				for r := range w.rounds {
					for _, step := range w.steps {
						messages = append(messages, fewValues(int64(h+1), int32(r), step)[:w.values]...)
					}
				}
			}
			walk(t, newWorld(t, messages, w.values))
		})
	}
}

// fewValues is four values of a message; the first two conflict.
func fewValues(height int64, round int32, step watermark.Step) []watermark.Mark {
	if step == watermark.StepProposal {
		return []watermark.Mark{
			message(height, round, step, "A", 1, -1), message(height, round, step, "B", 1, -1),
			message(height, round, step, "A", 2, -1), message(height, round, step, "A", 1, 0),
		}
	}
	return []watermark.Mark{
		message(height, round, step, "A", 1, 0), message(height, round, step, "nil", 1, 0),
		message(height, round, step, "A", 2, 0), message(height, round, step, "B", 2, 0),
	}
}

// world is a set of messages, numbered from 1 in the order of their positions,
// and what the rule says about each pair. Since the rule is pure, asking it
// once a pair is asking it always.
type world struct {
	messages []watermark.Mark
	values   int // messages a position
	// result[last][request] is the message that is signed, 0 for none.
	result [][]int
}

func newWorld(t *testing.T, messages []watermark.Mark, values int) world {
	w := world{messages: append([]watermark.Mark{{}}, messages...), values: values}
	for _, last := range w.messages {
		row := make([]int, len(w.messages))
		for i, req := range w.messages[1:] {
			m, isNew, err := watermark.Next(last, req)
			if err != nil {
				continue
			}
			row[i+1] = slices.IndexFunc(w.messages, m.Equal)
			if row[i+1] < 1 || isNew != !m.Equal(last) {
				t.Fatalf("last %v, request %v: got %v, new %v", last, req, m, isNew)
			}
		}
		w.result = append(w.result, row)
	}
	return w
}

// state is a durable mark and, as digits of a number, what was signed at each
// position: 0 nothing, else which of its values.
type state struct{ mark, signed int }

func walk(t *testing.T, w world) {
	digit := make([]int, len(w.messages)/w.values+1)
	digit[0] = 1
	for i := range digit[1:] {
		digit[i+1] = digit[i] * (w.values + 1)
	}
	signedAt := func(s state, m int) int { return s.signed / digit[(m-1)/w.values] % (w.values + 1) }

	seen := make([]bool, len(w.messages)*digit[len(digit)-1])
	var todo []state
	visit := func(s state) {
		if i := s.signed*len(w.messages) + s.mark; !seen[i] {
			seen[i] = true
			todo = append(todo, s)
		}
	}
	visit(state{})
	states := 0
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		states++
		for req := 1; req < len(w.messages); req++ {
			m := w.result[s.mark][req]
			if m == 0 {
				continue
			}
			if w.messages[m].Less(w.messages[s.mark]) {
				t.Fatalf("the mark falls from %v to %v", w.messages[s.mark], w.messages[m])
			}
			durable := state{m, s.signed}
			visit(durable) // killed before the signature
			value := (m-1)%w.values + 1
			switch before := signedAt(s, m); before {
			case 0:
				durable.signed += value * digit[(m-1)/w.values]
				visit(durable)
			case value:
				// The same bytes once more.
			default:
				t.Fatalf("after the mark %v, request %v: two signatures at %v, values %d and %d",
					w.messages[s.mark], w.messages[req], w.messages[m], before, value)
			}
		}
	}
	// What was signed below the mark is free, and the mark may be signed or not.
	if want := 2*digit[len(digit)-1] - 1; states != want {
		t.Fatalf("%d states were reached, want %d", states, want)
	}
}
