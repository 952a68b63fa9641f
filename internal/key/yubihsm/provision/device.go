package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"privyseal/internal/key/yubihsm/words"
	"privyseal/yubihsm"
)

const (
	// visitTime bounds what is done in one session.
	visitTime = 20 * time.Second
	// restartTime bounds the wait for a device that was reset, or is gone, and pause is between
	// two looks whether it is back: the connector has to find it again on the USB, and it may be
	// there for a moment before it goes.
	restartTime = 10 * time.Second
	pause       = 100 * time.Millisecond
)

// attempts is how often a step is done again whose answer was lost.
const attempts = 3

// Login opens sessions.
type Login struct {
	ID  uint16 // of the authentication key
	Key yubihsm.AuthenticationKey

	factory, words bool // where it comes from; neither is an operator's
}

// factoryKey is no secret. It is derived once, which takes some milliseconds.
var factoryKey = sync.OnceValue(func() yubihsm.AuthenticationKey { return yubihsm.DeriveKey([]byte("password")) })

// Factory is the login of a device that nobody has set up. Everybody knows it.
func Factory() Login { return Login{ID: Admin, Key: factoryKey(), factory: true} }

// Wipe takes an operator's authentication key out of memory, and no other one: those of the
// words are wiped by [Secrets.Wipe].
func (l Login) Wipe() {
	if !l.factory && !l.words {
		l.Key.Wipe()
	}
}

// Device is a device that is set up.
type Device struct {
	Address string // http://HOST:PORT or usb://SERIAL
	// Serial is its number, from the first look at it on. Another device that answers at the
	// address is refused then. 0 is any.
	Serial uint32
	// Restart is how long it is waited for after a reset, or when it is gone. 0 is ten seconds.
	Restart time.Duration
}

// OtherError is another device than the one that was looked at first.
type OtherError struct {
	Device Device
	Serial uint32 // that answers now
}

// Error implements error.
func (e *OtherError) Error() string {
	return fmt.Sprintf("the YubiHSM at %s is another one now: its serial number is %010d, and was %010d", e.Device.Address, e.Serial, e.Device.Serial)
}

// LockedError is a device that none of the logins opens.
type LockedError struct {
	Device Device
	ID     uint16 // of the authentication key that was tried, the operator's if there was one
	// Missing reports whether the device has no such authentication key. Otherwise the
	// password is another one.
	Missing bool
	// Interrupted reports whether the device has the temporary authentication key of a
	// set-up, by tmkms or us.
	Interrupted bool
}

// Error implements error.
func (e *LockedError) Error() string {
	if e.Missing {
		return fmt.Sprintf("the YubiHSM at %s has no authentication key 0x%04x", e.Device.Address, e.ID)
	}
	return fmt.Sprintf("authentication key 0x%04x of the YubiHSM at %s has another password", e.ID, e.Device.Address)
}

// DiffersError is an object that has an id of the set-up, and is not what the words make.
type DiffersError struct {
	Device Device
	Type   yubihsm.ObjectType
	ID     uint16
	What   string // differs
}

// Error implements error.
func (e *DiffersError) Error() string {
	return fmt.Sprintf("%v 0x%04x of the YubiHSM at %s is not what the words make: it has %s", e.Type, e.ID, e.Device.Address, e.What)
}

// visit opens a session for as long as f takes. f is given what the device says about itself.
func (d Device) visit(ctx context.Context, l Login, f func(context.Context, *yubihsm.Session, yubihsm.DeviceInfo) error) error {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	transport, err := yubihsm.Open(d.Address)
	if err != nil {
		return err
	}
	defer transport.Close()
	s, err := yubihsm.Authenticate(ctx, transport, l.ID, l.Key)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return err
	}
	if d.Serial != 0 && info.Serial != d.Serial {
		return &OtherError{d, info.Serial}
	}
	return f(ctx, s, info)
}

// shut reports whether a device refuses a login for good: it has no such authentication key
// (missing), or the password is another one.
func shut(err error) (is, missing bool) {
	refused, ok := errors.AsType[*yubihsm.DeviceError](err)
	_, broken := errors.AsType[*yubihsm.SessionError](err)
	missing = ok && !broken && refused.Command == yubihsm.CommandCreateSession && refused.Code == yubihsm.ObjectNotFound
	return missing || errors.Is(err, yubihsm.ErrWrongKey), missing
}

// enter is visit with the first of several logins that opens the device, which f is given.
// The error is a [*LockedError] if none does.
func (d Device) enter(ctx context.Context, logins []Login, f func(context.Context, *yubihsm.Session, yubihsm.DeviceInfo, Login) error) error {
	locked := &LockedError{Device: d}
	operators := false
	for _, l := range logins {
		opened := false
		err := d.visit(ctx, l, func(ctx context.Context, s *yubihsm.Session, info yubihsm.DeviceInfo) error {
			opened = true
			return f(ctx, s, info, l)
		})
		is, missing := shut(err)
		if opened || !is {
			return err
		}
		if !operators {
			locked.ID, locked.Missing = l.ID, missing
		}
		operators = operators || !l.factory && !l.words
	}
	var nobody [16]byte
	err := d.visit(ctx, Login{ID: temporary, Key: yubihsm.NewKey(nobody, nobody)}, func(context.Context, *yubihsm.Session, yubihsm.DeviceInfo) error { return nil })
	locked.Interrupted = errors.Is(err, yubihsm.ErrWrongKey)
	return locked
}

// State is what a device is, as one login sees it.
type State struct {
	Info    yubihsm.DeviceInfo
	As      Login
	Own     yubihsm.ObjectInfo // the authentication key of the login
	Objects []yubihsm.ObjectInfo
}

// Look looks at a device with the first of several logins that opens it. It changes nothing.
// The error is a [*LockedError] if none does.
func (d Device) Look(ctx context.Context, logins ...Login) (s State, err error) {
	err = d.enter(ctx, logins, func(ctx context.Context, session *yubihsm.Session, info yubihsm.DeviceInfo, as Login) error {
		s = State{Info: info, As: as}
		entries, err := session.ListObjects(ctx, yubihsm.Filter{})
		if err != nil {
			return err
		}
		for _, e := range entries {
			o, err := session.ObjectInfo(ctx, e.Type, e.ID)
			if err != nil {
				return err
			}
			s.Objects = append(s.Objects, o)
			if o.Type == yubihsm.TypeAuthenticationKey && o.ID == as.ID {
				s.Own = o
			}
		}
		return nil
	})
	return s, err
}

// find returns the object of an item's type and id, nil for none.
func (s State) find(i item) *yubihsm.ObjectInfo {
	n := slices.IndexFunc(s.Objects, func(o yubihsm.ObjectInfo) bool { return o.Type == i.kind && o.ID == i.ID })
	if n < 0 {
		return nil
	}
	return &s.Objects[n]
}

// Empty reports whether the device is as it leaves the factory: there is nothing but
// authentication key 1 with the password that everybody knows.
func (s State) Empty() bool {
	return s.As.factory && len(s.Objects) == 1 && covers(s.Own.Delegated, everything)
}

// IsFactory reports whether the factory's password opens the device.
func (s State) IsFactory() bool { return s.As.factory }

// Words makes words of the device's randomness and the host's, at least 32 bytes. It needs
// [yubihsm.GetPseudoRandom].
func (d Device) Words(ctx context.Context, l Login, host []byte) (w words.Words, err error) {
	err = d.visit(ctx, l, func(ctx context.Context, s *yubihsm.Session, _ yubihsm.DeviceInfo) error {
		random, err := s.PseudoRandom(ctx, 32)
		if err != nil {
			return err
		}
		defer clear(random)
		w, err = words.New(random, host)
		return err
	})
	return w, err
}

// Reset deletes everything on a device, and returns when it is back, empty. It needs
// [yubihsm.ResetDevice]. Where an answer is lost, what has become of the device is looked at.
func (d Device) Reset(ctx context.Context, l Login) error {
	var failed error
	for range attempts {
		failed = d.visit(ctx, l, func(ctx context.Context, s *yubihsm.Session, _ yubihsm.DeviceInfo) error { return s.ResetDevice(ctx) })
		if failed != nil && !passes(failed) {
			return failed
		}
		state, err := d.back(ctx, Factory(), l)
		if err != nil {
			return errors.Join(err, failed)
		}
		if state.Empty() {
			return nil
		}
	}
	return fmt.Errorf("the YubiHSM at %s was asked to reset, and is not empty: %w", d.Address, failed)
}

// back waits for a device that restarts.
func (d Device) back(ctx context.Context, logins ...Login) (State, error) {
	var state State
	err := d.until(ctx, func(ctx context.Context) (err error) {
		state, err = d.Look(ctx, logins...)
		return err
	})
	return state, err
}

// wait waits for a device that is gone.
func (d Device) wait(ctx context.Context) error {
	return d.until(ctx, func(ctx context.Context) error {
		transport, err := yubihsm.Open(d.Address)
		if err != nil {
			return err
		}
		defer transport.Close()
		_, err = yubihsm.ReadDeviceInfo(ctx, transport)
		return err
	})
}

// until calls f until it succeeds, or fails for good, or the device has had its time.
func (d Device) until(ctx context.Context, f func(context.Context) error) error {
	over := time.After(cmp.Or(d.Restart, restartTime))
	for {
		err := f(ctx)
		if err == nil || !passes(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-over:
			return fmt.Errorf("the YubiHSM at %s does not come back: %w", d.Address, err)
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// passes reports whether the same may succeed when it is done again: the device did not
// refuse it, but something got lost on the way.
func passes(err error) bool {
	if _, over := errors.AsType[*yubihsm.SessionError](err); over {
		return true
	}
	refused, ok := errors.AsType[*yubihsm.DeviceError](err)
	if ok {
		return refused.Code == yubihsm.InvalidSession || refused.Code == yubihsm.AuthenticationFailed
	}
	_, other := errors.AsType[*OtherError](err)
	_, locked := errors.AsType[*LockedError](err)
	_, differs := errors.AsType[*DiffersError](err)
	return !other && !locked && !differs
}
