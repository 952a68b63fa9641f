package yubihsm

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	hsm "privyseal/yubihsm"
)

// signTime is what a real device takes for a signature (yubihsm.rs #16).
const signTime = 105 * time.Millisecond

// BenchmarkOverhead is a signature without the device's time: our part, HTTP on loopback,
// and the simulator's.
func BenchmarkOverhead(b *testing.B) {
	w := newWorld(b, 1, patient)
	message := make([]byte, 110)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := w.key.Sign(nil, message, nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkAnswer is a signature of a device that takes its time: from Sign to its return.
func BenchmarkAnswer(b *testing.B) {
	w := worldOf(b, 1, standard, yubihsmtest.Ed25519, yubihsmtest.Options{SignTime: signTime})
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := w.key.Sign(nil, make([]byte, 110), nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/float64(signTime.Microseconds()), "p50/device")
}

// BenchmarkEightChains is a device that eight chains use at once, as fast as it signs.
func BenchmarkEightChains(b *testing.B) {
	w := worldOf(b, 1, standard, yubihsmtest.Ed25519, yubihsmtest.Options{SignTime: signTime})
	var mu sync.Mutex
	var took []time.Duration
	for b.Loop() {
		var chains sync.WaitGroup
		for range 8 {
			chains.Go(func() {
				for range 5 {
					began := time.Now()
					if _, err := w.key.Sign(nil, make([]byte, 110), nil); err != nil {
						b.Error(err)
					}
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
		chains.Wait()
	}
	slices.Sort(took)
	median, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(float64(median.Milliseconds()), "p50-ms")
	b.ReportMetric(float64(p99)/float64(median), "p99/p50")
}

// BenchmarkFailover is the signature within which the first of two devices fails.
func BenchmarkFailover(b *testing.B) {
	for name, harm := range map[string]func(d *yubihsmtest.Device){
		"killed":    func(d *yubihsmtest.Device) { d.StopConnector() },
		"hung":      func(d *yubihsmtest.Device) { d.Always(yubihsmtest.SignEdDSA, d.Hang()) },
		"no-device": func(d *yubihsmtest.Device) { d.Unplug() },
		"full": func(d *yubihsmtest.Device) {
			d.Unplug()
			d.Plug()
			d.Always(byte(hsm.CommandCreateSession), yubihsmtest.FailsPlainly(yubihsmtest.SessionsFull))
		},
	} {
		b.Run(name, func(b *testing.B) {
			var worst time.Duration
			for b.Loop() {
				b.StopTimer()
				w := worldOf(b, 2, standard, yubihsmtest.Ed25519, yubihsmtest.Options{SignTime: signTime})
				w.signs("before")
				harm(w.dev[0])
				b.StartTimer()
				began := time.Now()
				w.signs(fmt.Sprint("within ", name))
				worst = max(worst, time.Since(began))
				b.StopTimer()
				w.dev[0].Heal()
				w.ours.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
		})
	}
}
