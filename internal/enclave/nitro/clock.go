package nitro

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// hypervisorClock returns the device of the hypervisor's own clock below /dev, such as
// "ptp0"; "" if the kernel found none. sys is /sys.
func hypervisorClock(sys fs.FS) string {
	names, _ := fs.Glob(sys, "class/ptp/ptp*/clock_name")
	for _, name := range names {
		// Linux, drivers/ptp/ptp_kvm_common.c.
		if text, err := fs.ReadFile(sys, name); err == nil && strings.TrimSpace(string(text)) == "KVM virtual PTP" {
			return path.Base(path.Dir(name))
		}
	}
	return ""
}

// clockWarnings says what is wrong with a clock that is set by nothing, of a kernel that
// reads the time from something else than the hypervisor. Then it is off by what the
// processor's oscillator is: seconds a week.
func clockWarnings(sys fs.FS) []string {
	text, err := fs.ReadFile(sys, "devices/system/clocksource/clocksource0/current_clocksource")
	source := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		source = "unknown"
	case source == "kvm-clock":
		return nil
	}
	return []string{fmt.Sprintf("the enclave's clock follows nothing (its source is %.40s, and the hypervisor offers none): it gets wrong by seconds a week, and at five minutes AWS refuses its requests; launch the enclave again every few months", source)}
}

// clock is the hypervisor's, and the system's that is set by it.
type clock struct {
	read func() (time.Time, error)
	set  func(time.Time) error
}

const (
	// clockEvery is how often the system's clock is looked at; it drifts by milliseconds in
	// that time.
	clockEvery = 10 * time.Minute
	// clockOff is how far it may be off. Nothing here needs it to be better, and it jumps
	// when it is set.
	clockOff = 100 * time.Millisecond
)

// firstTime is before any enclave of this program: a clock that says less is not set.
var firstTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// correct sets the system's clock if it is off. A reading that fails is left out.
func (c clock) correct() {
	if theirs, err := c.read(); err == nil && theirs.After(firstTime) && time.Since(theirs).Abs() > clockOff {
		c.set(theirs)
	}
}

// follow corrects the system's clock until ctx ends.
func (c clock) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(clockEvery):
			c.correct()
		}
	}
}
