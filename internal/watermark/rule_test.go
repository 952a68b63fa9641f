package watermark_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"privyseal/internal/privval"
	"privyseal/internal/watermark"
)

// TestRule reads the truth table.
func TestRule(t *testing.T) {
	raw, err := os.ReadFile("testdata/rule.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, line := range strings.Split(string(raw), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		columns := strings.Split(line, "|")
		if len(columns) != 3 {
			t.Fatalf("line %d: %d columns", i+1, len(columns))
		}
		last, req, want := readMark(t, columns[0]), readMark(t, columns[1]), strings.TrimSpace(columns[2])
		m, isNew, err := watermark.Next(last, req)
		if got := outcome(m, isNew, err); got != want {
			t.Errorf("line %d: %s\n got %q", i+1, line, got)
		}
		switch {
		case err != nil:
			checkRefusal(t, err, last, req)
		case isNew && !m.Equal(req), !isNew && !m.Equal(last):
			t.Errorf("line %d: %s\n gives the mark %v", i+1, line, m)
		}
		seen[want]++
	}
	for _, want := range []string{
		"sign", "again", "refuse conflict", "refuse unknown_bytes",
		"refuse height_regression", "refuse round_regression", "refuse step_regression",
	} {
		if seen[want] == 0 {
			t.Errorf("no line of the table says %q", want)
		}
	}
}

// checkRefusal holds a refusal to what an operator needs of it: both marks.
func checkRefusal(t *testing.T, err error, last, req watermark.Mark) {
	t.Helper()
	refused, ok := errors.AsType[*watermark.RefusedError](err)
	if !ok {
		t.Fatalf("the refusal is a %T", err)
	}
	if !refused.Last.Equal(last) || !refused.Request.Equal(req) {
		t.Errorf("the refusal of %v after %v names %v and %v", req, last, refused.Request, refused.Last)
	}
	for _, part := range []string{string(refused.Reason), req.String(), last.String()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
}

func outcome(m watermark.Mark, isNew bool, err error) string {
	refused, ok := errors.AsType[*watermark.RefusedError](err)
	switch {
	case ok && m.Equal(watermark.Mark{}) && !isNew:
		return "refuse " + string(refused.Reason)
	case err != nil:
		return fmt.Sprintf("%v, %v, %v", m, isNew, err)
	case isNew:
		return "sign"
	}
	return "again"
}

// readMark reads a mark as rule.txt writes it.
func readMark(t *testing.T, s string) watermark.Mark {
	t.Helper()
	words := strings.Fields(s)
	if words[0] == "nothing" {
		return watermark.Mark{}
	}
	if words[0] == "floor" {
		return watermark.Floor(readInt(t, words[1], 64))
	}
	position := strings.Split(words[0], "/")
	if len(position) != 3 {
		t.Fatalf("%q is no height/round/step", words[0])
	}
	height, round := readInt(t, position[0], 64), int32(readInt(t, position[1], 32))
	step := watermark.Step(1 + slices.Index([]string{"proposal", "prevote", "precommit"}, position[2]))
	if words[1] == "?" {
		return watermark.Mark{Height: height, Round: round, Step: step}
	}
	pol := int32(-1)
	if len(words) > 3 {
		pol = int32(readInt(t, strings.TrimPrefix(words[3], "pol="), 32))
	}
	return message(height, round, step, words[1], readInt(t, strings.TrimPrefix(words[2], "t"), 64), pol)
}

func readInt(t *testing.T, s string, bits int) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, bits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message returns the mark of a real message: value is nil, a block by its
// letter, or the same block cut into other parts (A').
func message(height int64, round int32, step watermark.Step, value string, second int64, pol int32) watermark.Mark {
	r := privval.Request{
		Kind:    []privval.Kind{0, privval.KindProposal, privval.KindPrevote, privval.KindPrecommit}[step],
		ChainID: "chain-1", Height: height, Round: round, Timestamp: privval.Timestamp{Seconds: second},
	}
	if step == watermark.StepProposal {
		r.POLRound = pol
	}
	if value != "nil" {
		r.BlockID = privval.BlockID{
			Hash:       bytes.Repeat([]byte(value[:1]), 32),
			PartsTotal: uint32(len(value)),
			PartsHash:  bytes.Repeat([]byte(value[len(value)-1:]), 32),
		}
	}
	return watermark.Mark{Height: height, Round: round, Step: step, SignBytes: r.SignBytes()}
}

// The names in logs and metrics are a promise to operators.
func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		watermark.StepNone.String():                                             "none",
		watermark.StepProposal.String():                                         "proposal",
		watermark.StepPrevote.String():                                          "prevote",
		watermark.StepPrecommit.String():                                        "precommit",
		watermark.Step(7).String():                                              "step(7)",
		watermark.Floor(10).String():                                            "10/all/all",
		watermark.Mark{Height: 10, Round: 1, Step: 2}.String():                  "10/1/prevote",
		message(10, math.MaxInt32, watermark.StepPrecommit, "A", 1, 0).String(): "10/2147483647/precommit",
		string(watermark.Conflict):                                              "conflict",
		string(watermark.UnknownBytes):                                          "unknown_bytes",
		string(watermark.HeightRegression):                                      "height_regression",
		string(watermark.RoundRegression):                                       "round_regression",
		string(watermark.StepRegression):                                        "step_regression",
		string(watermark.HeightGap):                                             "height_gap",
		string(watermark.HeightLeap):                                            "height_leap",
		string(watermark.HeightMax):                                             "height_max",
		string(watermark.HeightFloor):                                           "height_floor",
		string(watermark.HeightCeiling):                                         "height_ceiling",
		string(watermark.DuplicateSigner):                                       "duplicate_signer",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A store may hand back empty sign bytes where there were none.
func TestEmptySignBytesAreUnknown(t *testing.T) {
	last := watermark.Mark{Height: 10, Step: watermark.StepPrevote, SignBytes: []byte{}}
	_, _, err := watermark.Next(last, message(10, 0, watermark.StepPrevote, "A", 1, 0))
	if refused, ok := errors.AsType[*watermark.RefusedError](err); !ok || refused.Reason != watermark.UnknownBytes {
		t.Errorf("got %v", err)
	}
}

// The timestamp that a node gets back is the recorded one, as it was encoded.
func TestMarkTimestamp(t *testing.T) {
	for _, second := range []int64{0, 1, 127, 128, 1_800_000_000, -62135596800} {
		want := privval.Timestamp{Seconds: second}.Append([]byte{})
		for _, step := range []watermark.Step{watermark.StepPrevote, watermark.StepPrecommit} {
			for _, value := range []string{"nil", "A"} {
				got := message(10, 1, step, value, second, 0).Timestamp()
				if got == nil || !bytes.Equal(got, want) {
					t.Errorf("%v of %s at %d: timestamp %x, want %x", step, value, second, got, want)
				}
			}
		}
		if got := message(10, 1, watermark.StepProposal, "A", second, -1).Timestamp(); got != nil {
			t.Errorf("a proposal has the timestamp %x", got)
		}
	}
	for _, m := range []watermark.Mark{{}, watermark.Floor(10), {Height: 1, Step: 2, SignBytes: []byte{1}}} {
		if got := m.Timestamp(); got != nil {
			t.Errorf("%v has the timestamp %x", m, got)
		}
	}
}
