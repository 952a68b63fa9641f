package oplog

import (
	"testing"
	"testing/synctest"
	"time"
)

// Every line is written or counted, and a flood of a day leaves a line in each
// half minute.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Repeats
		written, counted, lines := 0, int64(0), 0
		again := func(n int64) { counted += n; lines++ }
		const pace, total = time.Second / 10, 24 * 3600 * 10
		for range total {
			if r.Admit("a refusal", again) {
				written++
				lines++
			}
			time.Sleep(pace)
			synctest.Wait()
		}
		if !r.Admit("another", again) {
			t.Error("one kind stands in the way of another")
		}
		r.Flush()
		if int64(written)+counted != total {
			t.Errorf("%d lines were written and %d counted, of %d", written, counted, total)
		}
		if most := int(total*pace/repeatPause) + 2*repeatBurst; lines > most {
			t.Errorf("%d lines in a day, not at most %d", lines, most)
		}
		// After a quiet time there is room for the next ones.
		time.Sleep(time.Hour)
		for i := range repeatBurst {
			if !r.Admit("a refusal", again) {
				t.Errorf("line %d after an hour was held", i)
			}
		}
		if r.Admit("a refusal", again) {
			t.Error("the burst has no end")
		}
		time.Sleep(repeatPause)
		synctest.Wait()
		if int64(written)+counted != total+1 {
			t.Error("the last one was neither written nor counted")
		}
	})
}

// What is rare is written as it comes.
func TestRareLinesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Repeats
		for range 1000 {
			if !r.Admit("k", func(int64) { t.Error("counted") }) {
				t.Fatal("held")
			}
			time.Sleep(repeatPause)
		}
	})
}
