package watermark_test

import (
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
