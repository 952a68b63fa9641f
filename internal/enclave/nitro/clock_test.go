package nitro

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// The hypervisor's own clock is what the time is set by; without one the clock source has
// to be the hypervisor's. Anything else is said to the operator.
func TestWhatTheClockFollows(t *testing.T) {
	const source = "devices/system/clocksource/clocksource0/current_clocksource"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		device string
		warns  string
	}{
		{"kvm-clock", map[string]string{source: "kvm-clock\n"}, "", ""},
		{"the processor's counter", map[string]string{source: "tsc\n"}, "", "its source is tsc,"},
		{"that of arm64", map[string]string{source: "arch_sys_counter\n"}, "", "its source is arch_sys_counter,"},
		{"no sysfs", nil, "", "its source is unknown,"},
		{"a name like it", map[string]string{source: "kvm-clock2\n"}, "", "its source is kvm-clock2,"},
		{"a PTP clock", map[string]string{source: "tsc\n", "class/ptp/ptp0/clock_name": "KVM virtual PTP\n"}, "ptp0", ""},
		{"the second one", map[string]string{
			source: "tsc\n", "class/ptp/ptp0/clock_name": "ena-ptp-05\n", "class/ptp/ptp1/clock_name": "KVM virtual PTP\n"}, "ptp1", ""},
		{"one of a network card", map[string]string{source: "tsc\n", "class/ptp/ptp0/clock_name": "ena-ptp-05\n"}, "", "its source is tsc,"},
	} {
		sys := fstest.MapFS{}
		for name, text := range tt.files {
			sys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := hypervisorClock(sys); got != tt.device {
			t.Errorf("%s: the hypervisor's clock is %q, want %q", tt.name, got, tt.device)
		}
		if tt.device != "" {
			continue // nobody asks further
		}
		got := clockWarnings(sys)
		if (tt.warns == "") != (len(got) == 0) || !strings.Contains(strings.Join(got, ""), tt.warns) {
			t.Errorf("%s: the operator reads %q, want %q", tt.name, got, tt.warns)
		}
	}
}

// A clock that drifts is set, one that is right is left alone, and a reading that cannot be
// the time changes nothing.
func TestClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails error
		var off time.Duration // of the system's clock
		var set []time.Time
		c := clock{
			read: func() (time.Time, error) { return time.Now().Round(0).Add(-off), fails },
			set:  func(t time.Time) error { set, off = append(set, t), 0; return nil },
		}
		ctx, stop := context.WithCancel(t.Context())
		// The time of this bubble is long before an enclave.
		c.correct()
		off = time.Hour
		c.correct()
		if len(set) > 0 {
			t.Errorf("set to %v, before there was an enclave", set)
		}
		time.Sleep(time.Until(firstTime.Add(24 * time.Hour)))
		off = 0
		c.correct()
		for _, off = range []time.Duration{clockOff / 2, -clockOff / 2} {
			c.correct()
		}
		if len(set) > 0 {
			t.Errorf("set to %v, and it was right", set)
		}
		fails, off = errors.New("no clock"), time.Minute
		c.correct()
		if len(set) > 0 {
			t.Errorf("set to %v by a reading that failed", set)
		}
		fails = nil
		done := make(chan struct{})
		var mu sync.Mutex
		read, doSet := c.read, c.set
		c.read = func() (time.Time, error) { mu.Lock(); defer mu.Unlock(); return read() }
		c.set = func(t time.Time) error { mu.Lock(); defer mu.Unlock(); return doSet(t) }
		go func() {
			c.follow(ctx)
			close(done)
		}()
		for _, wrong := range []time.Duration{time.Minute, -time.Minute, time.Second} {
			mu.Lock()
			set, off = nil, wrong
			mu.Unlock()
			want := time.Now().Add(clockEvery - wrong)
			time.Sleep(clockEvery)
			synctest.Wait()
			mu.Lock()
			if len(set) != 1 || !set[0].Equal(want) {
				t.Errorf("%v off: set to %v, want %v", wrong, set, want)
			}
			mu.Unlock()
		}
		stop()
		<-done
	})
}
