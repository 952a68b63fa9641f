package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// row is one line of the table: what was measured, beside what, and the bound.
type row struct {
	what      string
	measured  string
	reference string
	ratio     string
	bound     string
	ok        bool
}

// atMost returns a row that compares a percentile, and allows what was measured
// bound times its reference.
func atMost(bound float64, what string, measured samples, percent int, reference string, base samples) row {
	m, b := measured.p(percent), base.p(percent)
	ratio := float64(m) / float64(b)
	return row{
		what:      what,
		measured:  micros(m),
		reference: fmt.Sprintf("%s %s", reference, micros(b)),
		ratio:     fmt.Sprintf("%.2f", ratio),
		bound:     fmt.Sprintf("≤ %g", bound),
		ok:        ratio <= bound,
	}
}

// beside returns a row that compares a percentile, and asks for nothing.
func beside(what string, measured samples, percent int, reference string, base samples) row {
	r := atMost(0, what, measured, percent, reference, base)
	r.bound, r.ok = "-", true
	return r
}

// both returns p50 and p99.
func both(s samples) string { return micros(s.p(50)) + " and " + micros(s.p(99)) }

func printTable(w io.Writer, rows []row) error {
	missed := 0
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nwhat\tmeasured\treference\tratio\tbound\t")
	for _, r := range rows {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.measured, r.reference, r.ratio, r.bound, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := fmt.Sprintf("all %d rows are ok", len(rows))
	if missed > 0 {
		verdict = fmt.Sprintf("%d of %d rows MISSED; measure again when the machine is quiet, and see doc/performance.md", missed, len(rows))
	}
	_, err := fmt.Fprintf(w, "\n%s\n", verdict)
	return err
}

func micros(d time.Duration) string {
	if d >= 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", ms(d))
	}
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}

// samples are durations of one kind.
type samples []time.Duration

// timed runs f and keeps how long it took.
func (s *samples) timed(f func() error) error {
	start := time.Now()
	err := f()
	*s = append(*s, time.Since(start))
	return err
}

// p returns the percentile by nearest rank.
func (s samples) p(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[(len(sorted)*percent+99)/100-1]
}

// plus returns the samples, each with so much more.
func (s samples) plus(more time.Duration) (sum samples) {
	for _, d := range s {
		sum = append(sum, d+more)
	}
	return sum
}

// and returns the samples, each with its partner in more.
func (s samples) and(more samples) (sum samples) {
	for i, d := range s {
		sum = append(sum, d+more[i])
	}
	return sum
}

// halves returns every second sample from the first, and from the second.
func (s samples) halves() (first, second samples) {
	for pair := range slices.Chunk(s, 2) {
		first, second = append(first, pair[0]), append(second, pair[1])
	}
	return first, second
}

// figures are measurements that are not durations.
type figures []float64

func (f figures) median() float64 {
	sorted := slices.Sorted(slices.Values(f))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
