package watermark_test

import (
	"math"
	"strings"
	"testing"

	"privyseal/internal/watermark"
)

// TestMarksInOrder: each mark is less than all that follow it, equal to itself
// alone, and only the first one is zero.
func TestMarksInOrder(t *testing.T) {
	marks := []watermark.Mark{
		{},
		{Round: 1},
		{Height: 1},
		{Height: 1, Step: watermark.StepProposal},
		{Height: 1, Step: watermark.StepPrevote},
		{Height: 1, Step: watermark.StepPrecommit},
		{Height: 1, Round: 1, Step: watermark.StepProposal},
		{Height: 1, Round: 1, Step: watermark.StepPrecommit},
		watermark.Floor(1),
		{Height: 2},
		{Height: 2, Round: 1, Step: watermark.StepProposal},
		watermark.Floor(2),
	}
	for i, m := range marks {
		if m.IsZero() != (i == 0) {
			t.Errorf("%v is zero: %v", m, m.IsZero())
		}
		for j, n := range marks {
			if m.Less(n) != (i < j) || m.Equal(n) != (i == j) {
				t.Errorf("%v and %v: less %v, equal %v", m, n, m.Less(n), m.Equal(n))
			}
		}
		other := m
		other.SignBytes = []byte{1}
		if m.Equal(other) || m.Less(other) || other.Less(m) {
			t.Errorf("%v with other bytes is equal, or lies elsewhere", m)
		}
	}
}

// TestChainIDs: what may be a file name and stand on a terminal.
func TestChainIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"a":                         true,
		"Chain-1.test_9":            true,
		"-1":                        true,
		strings.Repeat("a", 50):     true,
		strings.Repeat("a", 51):     false,
		"":                          false,
		".a":                        false,
		"..":                        false,
		"a/b":                       false,
		"a b":                       false,
		"a\x1b[31mb":                false,
		"a\nb":                      false,
		"a$(b)c":                    false,
		"a\u00e4b":                  false,
		"/":                         false,
		strings.Repeat("\u00e4", 9): false,
	} {
		if got := watermark.ValidChainID(id); got != want {
			t.Errorf("%q is valid: %v", id, got)
		}
	}
}

// What a record can hold is the same in every store; how many sign bytes is its own.
func TestCheck(t *testing.T) {
	const most = 4
	for _, tt := range []struct {
		m    watermark.Mark
		want string
	}{
		{watermark.Mark{}, ""},
		{watermark.Mark{Height: math.MaxInt64, Round: math.MaxInt32, Step: watermark.StepPrecommit, SignBytes: make([]byte, most)}, ""},
		{watermark.Mark{Height: 1}, ""},
		{watermark.Mark{Height: -1}, "the mark is out of range"},
		{watermark.Mark{Round: -1}, "the mark is out of range"},
		{watermark.Mark{Step: watermark.StepPrecommit + 1}, "the mark is out of range"},
		{watermark.Mark{Height: 1, Step: watermark.StepPrevote, SignBytes: make([]byte, most+1)}, "5 sign bytes, more than 4"},
		{watermark.Mark{Height: 1, SignBytes: []byte{1}}, "sign bytes without a step"},
	} {
		if got := text(tt.m.Check(most)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.m, got, tt.want)
		}
	}
	for n, want := range map[int]string{0: "the chain id has 0 bytes, not 1 to 50", 1: "", 50: "", 51: "the chain id has 51 bytes, not 1 to 50"} {
		if got := text(watermark.ID{ChainID: strings.Repeat("a", n)}.Check()); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
