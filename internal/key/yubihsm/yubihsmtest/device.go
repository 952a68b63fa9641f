package yubihsmtest

import (
	"encoding/binary"
	"maps"
	"net/http"
	"slices"
	"sync"
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

	// Signs hears of each signature that the device is about to make: of the key, and what
	// it signs. It must not call the device. It may be nil.
	Signs func(key uint16, message []byte)
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

// connector speaks what yubihsm-connector 3.0.5 speaks.
type connector struct {
	address string
	server  *http.Server // nil while it is stopped
	ended   chan struct{}
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

// add keeps an object, whose id is free.
func (d *Device) add(o *object) {
	r := o.ref()
	if n, was := d.sequences[r]; was {
		d.sequences[r] = n + 1
	} else {
		d.sequences[r] = 0
	}
	o.sequence = d.sequences[r]
	d.objects[r] = o
}

// freeID chooses an id at random.
func (d *Device) freeID(typ Type) uint16 {
	for {
		id := binary.BigEndian.Uint16(random(2))
		if id != 0 && id != 0xffff && d.objects[ref{typ, id}] == nil {
			return id
		}
	}
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

// find returns the session that a message of it names by its first byte.
func (d *Device) find(data []byte) *session {
	if len(data) == 0 || data[0] >= MaxSessions {
		return nil
	}
	return d.sessions[data[0]]
}

// expire ends the sessions that were idle for too long.
func (d *Device) expire() {
	for i, s := range d.sessions {
		if s != nil && d.now().Sub(s.used) >= IdleTime {
			d.sessions[i] = nil
		}
	}
}

// reset makes a device of the factory out of this one.
func (d *Device) reset() {
	d.objects, d.sequences = map[ref]*object{}, map[ref]byte{}
	d.sessions = [MaxSessions]*session{}
	d.add(&object{Object: Object{Type: AuthenticationKey, ID: 1, Algorithm: AES128Auth, Label: "DEFAULT AUTHKEY CHANGE THIS ASAP",
		Domains: 0xffff, Capabilities: All, Delegated: All}, origin: imported, secret: passwordKeys("password")})
	audit := byte(auditOn)
	if d.atLeast(2, 3, 1) {
		audit = auditOff
	}
	d.log = newLog(audit)
	d.boot()
}

// boot is what happens when the power comes.
func (d *Device) boot() {
	d.sessions = [MaxSessions]*session{}
	d.started = d.now()
	d.log.boot()
}

func (d *Device) hasPower() bool {
	select {
	case <-d.power:
		return false
	default:
		return true
	}
}

func (d *Device) cutPower() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hasPower() {
		close(d.power)
	}
	d.sessions = [MaxSessions]*session{}
}
