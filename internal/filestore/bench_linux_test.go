package filestore

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"privyseal/internal/watermark"
)

// median runs op b.N times and reports its median beside the mean.
func median(b *testing.B, op func()) {
	times := make([]time.Duration, 0, 1<<16)
	for b.Loop() {
		start := time.Now()
		op()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2]), "p50-ns")
	b.ReportMetric(float64(times[len(times)*99/100]), "p99-ns")
}

// BenchmarkReplace is a write of the store. It may take 1.2 times as long as
// BenchmarkFloor, p50 by p50.
func BenchmarkReplace(b *testing.B) {
	s := open(b, create(b, watermark.Mark{}))
	saved := load(b, s)
	m := watermark.Mark{Step: watermark.StepPrecommit, SignBytes: make([]byte, 120)}
	median(b, func() {
		m.Height++
		saved = replace(b, s, saved, m)
	})
}

// BenchmarkFloor is what the disk takes for it: one pwrite of 512 bytes and one
// fdatasync, to a file of written zeros, to two places by turns.
func BenchmarkFloor(b *testing.B) {
	c := create(b, watermark.Mark{})
	fd, err := unix.Open(c.Path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	var slot [slotSize]byte
	n := 0
	median(b, func() {
		n++
		slot[n%slotSize]++
		if _, err := unix.Pwrite(fd, slot[:], int64(n%2)*slotOffset); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(fd); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkRatio does both by turns, so that noise meets both, and reports the
// ratio of the medians.
func BenchmarkRatio(b *testing.B) {
	s := open(b, create(b, watermark.Mark{}))
	saved := load(b, s)
	m := watermark.Mark{Step: watermark.StepPrecommit, SignBytes: make([]byte, 120)}
	raw := open(b, create(b, watermark.Mark{}))
	var ours, floor []time.Duration
	for b.Loop() {
		start := time.Now()
		m.Height++
		saved = replace(b, s, saved, m)
		ours = append(ours, time.Since(start))

		start = time.Now()
		if err := raw.sys.writeSlot(raw.fd, len(ours)%2, &s.slot); err != nil {
			b.Fatal(err)
		}
		floor = append(floor, time.Since(start))
	}
	slices.Sort(ours)
	slices.Sort(floor)
	b.ReportMetric(float64(ours[len(ours)/2])/float64(floor[len(floor)/2]), "ratio")
}
