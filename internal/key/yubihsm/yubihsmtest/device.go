// Package yubihsmtest is a YubiHSM 2 in software, for tests: the device with its sessions,
// objects, capabilities, domains, backups, attestations and audit log, and the connector
// before it. It is written from Yubico's documents, and Yubico's own programs judge it. It
// breaks where a test wants it to (see Fault). No program imports it.
//
// It is no HSM: its keys lie in memory, and it takes no care that they stay there.
package yubihsmtest

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// Options are what devices differ in. The zero value is a new device of today.
type Options struct {
	Serial   uint32        // 0 is DefaultSerial
	Firmware [3]byte       // 0.0.0 is 2.4.0
	SignTime time.Duration // what each signature takes; a real device takes 105 ms

	// RealTime lets sessions end as the time passes. Without it they are idle for as
	// long as Advance says.
	RealTime bool
	// KeepsSessions keeps a session after a message of it with a wrong MAC. It is not
	// known what a device does.
	KeepsSessions bool
}

// DefaultSerial is the serial number of a device that is given none.
const DefaultSerial = 12345678

// Device is a device and the connector that it is plugged into.
type Device struct {
	options Options
	busy    sync.Mutex // held while it works on a command: it does one at a time

	mu        sync.Mutex // guards what follows
	shift     time.Duration
	started   time.Time // of the power
	power     chan struct{}
	objects   map[ref]*object
	sequences map[ref]byte
	sessions  [MaxSessions]*session
	log       auditLog
	attester  *attester
	faults    []*armed
	seen      []byte
	healed    chan struct{}

	connector
}

// New returns a device as it leaves the factory: with authentication key 1, whose
// password is "password". It stops when the test ends.
func New(t testing.TB, options Options) *Device {
	t.Helper()
	if options.Serial == 0 {
		options.Serial = DefaultSerial
	}
	if options.Firmware == [3]byte{} {
		options.Firmware = [3]byte{2, 4, 0}
	}
	d := &Device{options: options, power: make(chan struct{}), healed: make(chan struct{}), attester: newAttester(t, options)}
	d.reset()
	d.listen(t)
	t.Cleanup(func() {
		d.Heal()
		d.Unplug()
		d.StopConnector()
	})
	return d
}

// atLeast compares the firmware's version.
func (d *Device) atLeast(major, minor, patch byte) bool {
	return slices.Compare(d.options.Firmware[:], []byte{major, minor, patch}) >= 0
}

// bufferSize is the length in bytes of the longest message.
func (d *Device) bufferSize() int {
	if d.atLeast(2, 4, 0) {
		return 3136
	}
	return 2048
}

// now is the device's time.
func (d *Device) now() time.Time {
	if d.options.RealTime {
		return time.Now().Add(d.shift)
	}
	return time.Unix(1_700_000_000, 0).Add(d.shift)
}

// Advance lets time pass for the device.
func (d *Device) Advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shift += by
}

// Sessions returns how many sessions are open, those that wait for the second message
// included.
func (d *Device) Sessions() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	for _, s := range d.sessions {
		if s != nil {
			n++
		}
	}
	return n
}

// Count returns how often the device got a command since it was made, whatever became of it.
func (d *Device) Count(command byte) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.seen {
		if c == command || command == Any {
			n++
		}
	}
	return n
}

// reset makes a device of the factory out of this one.
func (d *Device) reset() {
	d.objects, d.sequences = map[ref]*object{}, map[ref]byte{}
	d.sessions = [MaxSessions]*session{}
	d.add(&object{Object: Object{Type: AuthenticationKey, ID: 1, Algorithm: AES128Auth, Label: "DEFAULT AUTHKEY CHANGE THIS ASAP",
		Domains: 0xffff, Capabilities: All, Delegated: All}, origin: imported, secret: passwordKeys("password")})
	d.resetLog()
	d.boot()
}

// boot is what happens when the power comes.
func (d *Device) boot() {
	d.sessions = [MaxSessions]*session{}
	d.started = d.now()
	d.logBoot()
}

// Reset is what the button of a device does that is held while it is plugged in.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reset()
}

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// info answers the request for the device's description, page 0 or 1.
func (c *call) info() ([]byte, error) {
	d := c.d
	if len(c.in) == 1 && c.in[0] == 1 && d.atLeast(2, 4, 0) {
		return []byte("SIMULATOR"), nil
	}
	if len(c.in) > 1 || len(c.in) == 1 && c.in[0] != 0 {
		return nil, InvalidData
	}
	out := binary.BigEndian.AppendUint32(slices.Clone(d.options.Firmware[:]), d.options.Serial)
	out = append(out, LogSize, byte(len(d.log.entries)))
	return append(out, d.algorithms()...), nil
}

// algorithms lists those that the device says it has. Ours has more than the simulator, as
// clients ask for the number.
func (d *Device) algorithms() (list []byte) {
	last := byte(lastKnown)
	switch {
	case !d.atLeast(2, 3, 0):
		last = lastBefore2_3_0
	case d.atLeast(2, 4, 0):
		last = lastUnknown
	}
	for a := byte(1); a <= last; a++ {
		list = append(list, a)
	}
	return list
}

// storage answers the request for the free storage.
func (c *call) storage() ([]byte, error) {
	used := uint16(len(c.d.objects))
	var out []byte
	for _, n := range []uint16{maxObjects, maxObjects - used, 1024, 1024 - 2*used, 126} {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return out, nil
}

// refs returns the objects' names in order.
func (d *Device) refs() []ref {
	return slices.SortedFunc(maps.Keys(d.objects), func(a, b ref) int {
		if a.id != b.id {
			return int(a.id) - int(b.id)
		}
		return int(a.typ) - int(b.typ)
	})
}
