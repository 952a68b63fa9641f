package yubihsmtest

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// answer is what the connector gets of the device.
type answer struct {
	message []byte
	sent    int  // how many bytes of it the connector sends
	status  int  // of HTTP, in place of the message
	dropped bool // nothing is sent
}

// noDevice is what the connector answers without a device.
var noDevice = answer{status: http.StatusInternalServerError}

// strike returns how a command goes.
func (d *Device) strike(command byte) plan {
	p := plan{sent: -1}
	for i, a := range d.faults {
		if a.command != command && a.command != Any {
			continue
		}
		f := a.faults[0]
		if !a.always {
			if a.faults = a.faults[1:]; len(a.faults) == 0 {
				d.faults = slices.Delete(slices.Clone(d.faults), i, i+1)
			}
		}
		if f != nil {
			f(&p)
		}
		break
	}
	return p
}

// deliver makes the connector's answer of the device's.
func (p plan) deliver(message []byte) answer {
	for _, m := range p.mangle {
		message = m(message)
	}
	a := answer{message: message, sent: len(message), status: p.status, dropped: p.dropped}
	if p.sent >= 0 {
		a.sent = min(p.sent, len(message))
	}
	return a
}

// exchange has the device work on a message.
func (d *Device) exchange(ctx context.Context, message []byte) answer {
	d.busy.Lock()
	defer d.busy.Unlock()
	r, p, power := d.begin(message)
	if power == nil {
		return noDevice
	}
	switch {
	case p.lost:
		return answer{dropped: true}
	case !p.pause(ctx, power):
		return d.silence(power)
	}
	inner, ok := d.work(r, p, power)
	if !ok {
		return noDevice
	}
	return p.deliver(inner)
}

// begin reads a message and says how it goes from here. Without power it returns no
// channel of it.
func (d *Device) begin(message []byte) (r reception, p plan, power chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.hasPower() {
		return r, p, nil
	}
	r = d.receive(message)
	command := byte(Any)
	switch {
	case r.call != nil:
		command = r.call.command
	case len(message) > 0:
		command = message[0]
	}
	d.seen = append(d.seen, command)
	return r, d.strike(command), d.power
}

// silence is the answer where the device did not get to work.
func (d *Device) silence(power chan struct{}) answer {
	select {
	case <-power:
		return noDevice
	default:
		return answer{dropped: true}
	}
}

// work executes a command and takes the device's time for it; false if the power goes.
func (d *Device) work(r reception, p plan, power chan struct{}) ([]byte, bool) {
	if r.call == nil {
		return r.answer, true
	}
	inner := d.perform(r, p, power)
	if inner == nil {
		return nil, false
	}
	if p.unplugs {
		d.cutPower()
	}
	if !sleep(power, d.timeOf(inner[0])) {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.spoil != nil {
		inner = p.spoil(inner)
	}
	return r.finish(inner), true
}

// perform executes a command; nil if the power is gone.
func (d *Device) perform(r reception, p plan, power chan struct{}) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.power != power || !d.hasPower() {
		return nil
	}
	return r.perform(p.instead)
}

// timeOf is what the device takes for a command that it has answered so.
func (d *Device) timeOf(answer byte) time.Duration {
	switch answer {
	case SignEdDSA | reply, SignECDSA | reply, SignAttestation | reply:
		return d.options.SignTime
	}
	return 0
}
