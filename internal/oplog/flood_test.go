package oplog

import (
	"testing"
	"time"
)

// A flood comes through by drops: first a burst, then what its pace allows, with a count of the
// rest, and after a quiet time a burst again, and no more than that.
func TestFlood(t *testing.T) {
	const burst, n = 20, 6
	f, now := NewFlood(burst, n, time.Minute), time.Now()
	allowed := func(of int) (passed, lost int) {
		for range of {
			ok, missing := f.Allow(now)
			if ok {
				passed++
			}
			lost += missing
		}
		return passed, lost
	}
	for _, step := range []struct {
		later               time.Duration
		lines, passed, lost int
	}{
		{0, burst + 5, burst, 0},
		{0, 1, 0, 0},
		{10 * time.Second, 3, 1, 6},
		{5 * time.Second, 1, 0, 0},
		{time.Minute, n + 3, n, 3},
		{24 * time.Hour, burst + 1, burst, 3},
		{-time.Hour, 1, 0, 0}, // the clock went back
		{10 * time.Second, 3, 1, 2},
	} {
		now = now.Add(step.later)
		if passed, lost := allowed(step.lines); passed != step.passed || lost != step.lost {
			t.Errorf("%v later: %d of %d lines passed, and %d had not; want %d and %d", step.later, passed, step.lines, lost, step.passed, step.lost)
		}
	}
	if lost := f.Lost(); lost != 2 {
		t.Errorf("at the end %d were lost", lost)
	}
	if lost := f.Lost(); lost != 0 {
		t.Errorf("%d are said twice", lost)
	}
}
