// Package yubihsmtest is a YubiHSM 2 in software, for tests: the device with its sessions,
// objects, capabilities, domains, backups, attestations and audit log, and the connector
// before it. It is written from Yubico's documents, and Yubico's own programs judge it. It
// breaks where a test wants it to (see Fault). No program imports it.
//
// New makes a device of the factory, at URL. Provision, ProvisionAuth and ProvisionEd25519
// put objects into it; Objects, Log, Sessions and Count say what became of it. Next and
// Always set faults for commands, Heal ends them. Unplug and Plug, StopConnector and
// StartConnector, Swap and Remove are what happens to a device.
//
// It is no HSM: its keys lie in memory, and it takes no care that they stay there.
package yubihsmtest

import (
	"context"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// New returns a device as it leaves the factory: with authentication key 1, whose
// password is "password". It stops when the test ends.
func New(t testing.TB, options Options) *Device {
	t.Helper()
	d, err := Launch("127.0.0.1:0", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return d
}

// Launch is New outside of tests: the connector listens at address, HOST:PORT, and the
// device is there until Stop.
func Launch(address string, options Options) (*Device, error) {
	if options.Serial == 0 {
		options.Serial = DefaultSerial
	}
	if options.Firmware == [3]byte{} {
		options.Firmware = [3]byte{2, 4, 0}
	}
	d := &Device{options: options, power: make(chan struct{}), healed: make(chan struct{}), attester: newAttester(options.Serial, options.Firmware)}
	d.reset()
	d.address = address
	return d, d.Listen()
}

// Stop ends what Launch began.
func (d *Device) Stop() {
	d.Heal()
	d.Unplug()
	d.StopConnector()
}

// Exchange hands a message to the device as USB does, and returns the answer; false if
// none comes.
func (d *Device) Exchange(message []byte) ([]byte, bool) {
	a := d.exchange(context.Background(), message)
	return a.message[:a.sent], !a.dropped && a.status == 0
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

// Log returns the entries that are in the device.
func (d *Device) Log() []LogEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.log.entries)
}

// Root returns the root of the device's attestations, and the certificate between it and
// the device's own, which is opaque object 0.
func (d *Device) Root() (root, middle *x509.Certificate) { return d.attester.root, d.attester.middle }

// Reset is what the button of a device does that is held while it is plugged in.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reset()
}

// Unplug takes the power from the device: the connector goes on without one.
func (d *Device) Unplug() { d.cutPower() }

// Plug brings the device back.
func (d *Device) Plug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.hasPower() {
		d.power = make(chan struct{})
		d.boot()
	}
}

// Next has the next commands of a kind meet the faults, one each; nil lets one pass. Any is
// every kind.
func (d *Device) Next(command byte, faults ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &armed{command: command, faults: faults})
}

// Always has every command of a kind meet the fault, until Heal.
func (d *Device) Always(command byte, f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &armed{command: command, faults: []Fault{f}, always: true})
}

// Armed returns how many faults that Next has set no command has met yet.
func (d *Device) Armed() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.faults {
		if !a.always {
			n += len(a.faults)
		}
	}
	return n
}

// Heal forgets all faults and lets go what hangs.
func (d *Device) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
	close(d.healed)
	d.healed = make(chan struct{})
}

// Hang has the device not begin, and work on nothing else either, until Heal or until
// whoever waits for the answer goes away.
func (d *Device) Hang() Fault {
	return func(p *plan) {
		healed := d.healed // strike holds the lock
		p.waits = append(p.waits, func(ctx context.Context, power <-chan struct{}) bool {
			select {
			case <-healed:
			case <-ctx.Done():
			case <-power:
			}
			return false
		})
	}
}
