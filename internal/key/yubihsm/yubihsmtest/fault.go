package yubihsmtest

import (
	"context"
	"slices"
	"time"
)

// Fault is what goes wrong with one command.
type Fault func(*plan)

// plan is how a command goes.
type plan struct {
	lost    bool                                          // it never reaches the device
	waits   []func(context.Context, <-chan struct{}) bool // what happens before; false ends it
	instead Code                                          // the answer, in place of executing it
	unplugs bool                                          // the power goes when it is executed
	spoil   func(inner []byte) []byte                     // what becomes of the answer before it is encrypted
	mangle  []func(message []byte) []byte                 // and after
	sent    int                                           // how much of it is sent; -1 is all
	dropped bool                                          // the answer gets lost
	status  int                                           // of HTTP
}

type armed struct {
	command byte
	faults  []Fault // nil in it: this one goes well
	always  bool
}

// sleep waits; false if the power goes.
func sleep(power <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-power:
		return false
	default:
	}
	if d == 0 {
		return true
	}
	select {
	case <-power:
		return false
	case <-timer.C:
		return true
	}
}

// pause waits as the plan has it; false if the command ends here.
func (p plan) pause(ctx context.Context, power <-chan struct{}) bool {
	for _, wait := range p.waits {
		if !wait(ctx, power) {
			return false
		}
	}
	return true
}

// Drop loses the command: the device does not get it, and the connection ends.
func Drop() Fault { return func(p *plan) { p.lost = true } }

// DropAnswer loses the answer: the device has done its work, and the connection ends.
func DropAnswer() Fault { return func(p *plan) { p.dropped = true } }

// CutAnswer ends the connection after n bytes of the answer.
func CutAnswer(n int) Fault { return func(p *plan) { p.sent = n } }

// Truncate lets the answer end after n bytes; HTTP says that this is all of it.
func Truncate(n int) Fault {
	return func(p *plan) {
		p.mangle = append(p.mangle, func(m []byte) []byte { return m[:min(n, len(m))] })
	}
}

// Flip changes byte i of the answer; -1 is the last one, which of a session is of the MAC.
func Flip(i int) Fault {
	return func(p *plan) { p.mangle = append(p.mangle, func(m []byte) []byte { return flip(m, i) }) }
}

// BadMAC is an answer with a wrong MAC.
func BadMAC() Fault { return Flip(-1) }

// Answer is another answer than the device's.
func Answer(message []byte) Fault {
	return func(p *plan) {
		p.mangle = append(p.mangle, func([]byte) []byte { return slices.Clone(message) })
	}
}

// Fails has the device answer with an error, inside of the session if there is one.
func Fails(code Code) Fault { return func(p *plan) { p.instead = code } }

// FailsPlainly has the device answer with an error outside of the session.
func FailsPlainly(code Code) Fault { return Answer(errorFrame(code)) }

// Status has the connector answer with a status of HTTP, after the device has done its work.
func Status(status int) Fault { return func(p *plan) { p.status = status } }

// Delay lets time pass before the device begins.
func Delay(by time.Duration) Fault {
	return func(p *plan) {
		p.waits = append(p.waits, func(_ context.Context, power <-chan struct{}) bool { return sleep(power, by) })
	}
}

// UnpluggedWithin takes the power from the device while it works: the command is done, and
// nobody hears of it. Plug brings the device back, without its sessions.
func UnpluggedWithin() Fault { return func(p *plan) { p.unplugs = true } }

// Spoil changes the data of the answer before it is encrypted: the device itself is wrong.
func Spoil(change func(data []byte) []byte) Fault {
	return func(p *plan) {
		p.spoil = func(inner []byte) []byte {
			return shorten(append(slices.Clone(inner[:3]), change(slices.Clone(inner[3:]))...))
		}
	}
}

// WrongSignature has the device answer with a signature that is wrong.
func WrongSignature() Fault { return Spoil(func(data []byte) []byte { return flip(data, -1) }) }
