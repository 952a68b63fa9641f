package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"privyseal/internal/key/yubihsm/auditlog"
	hsm "privyseal/yubihsm"
)

// maxAbandoned is how many sessions may be left behind on a device in the time that it
// keeps them: half of its 16, so that those who also use it get in.
const (
	maxAbandoned = 8
	sessionIdle  = 31 * time.Second // the device's 30, and our clocks
)

// times are how long things take.
type times struct {
	patience  time.Duration // a signature, whatever happens
	try       time.Duration // a device has for it, from when it is its turn
	keepAlive time.Duration // between questions to a device that keep its session, which it ends after 30 s without any
	tend      time.Duration // between looks at devices: are they to be kept alive, or back?
}

// device is one device, with one session.
type device struct {
	address   string
	transport hsm.Transport
	authKey   uint16
	key       hsm.AuthenticationKey
	times     times

	// turn holds an element while somebody uses what is below.
	turn      chan struct{}
	session   *hsm.Session // nil: none
	asked     time.Time    // when the device was asked last who it is
	abandoned []time.Time  // when sessions were left behind that may still be there
	broke     error        // why the last one was

	audit auditor

	mu     sync.Mutex
	status Status
	tally  map[*target]tally
	// foreign are signatures that nobody of ours asked for, by key.
	foreign map[uint16]int
}

// tally is what a device has signed with one key.
type tally struct {
	signatures uint64
	took, last time.Duration
}

// Status is how a device does.
type Status struct {
	Address string
	// Info is what the device said of itself, some seconds ago while it answers; zero if it
	// was never reached.
	Info hsm.DeviceInfo
	// Failed is why the device is not asked to sign, as long as another one does; nil if
	// nothing is wrong with it.
	Failed error
	// Since is when Failed last changed between nil and an error, or when the devices were
	// opened.
	Since time.Time
	// Signatures counts those that verified. Took is how long all of them took, and LastTook
	// the last one, without the time in the queue.
	Signatures     uint64
	Took, LastTook time.Duration
	Log            LogStatus
}

// LogStatus is how the log of a device is drained.
type LogStatus struct {
	Audited bool // else it is left alone, and the rest is zero
	// Used is how many entries it had when it was read last, and the signatures since then.
	Used, Size int
	// Drained is when it was emptied last; zero if it never was.
	Drained time.Time
	// Problem is why it is not drained any more; nil if it is.
	Problem error
	// Foreign counts the signatures that nobody of ours asked for.
	Foreign int
}

// auditor accounts for the signatures of a device.
type auditor interface {
	// sign has f ask for a signature. The caller has its turn with the device, and a session.
	sign(ctx context.Context, a auditlog.Ask, f func() error) error
	// relieve makes room in the log if err says that it is full, and reports whether there
	// is some.
	relieve(ctx context.Context, err error) bool
}

// unaudited is the auditor of a device whose log is left alone.
type unaudited struct{}

func (unaudited) sign(_ context.Context, _ auditlog.Ask, f func() error) error { return f() }

func (unaudited) relieve(context.Context, error) bool { return false }

// errAway is the answer of a device that failed while we waited for it.
var errAway = errors.New("it failed while others waited for it")

// do has its turn with the device, and runs commands on its session. If the session turns
// out to be over before the time of a try is, they run once more, on a new one: commands
// must be such that this does no harm. then hears what came of it before others have their
// turn: they must not wait for a device that hangs as well.
func (d *device) do(ctx context.Context, away func() bool, commands func(context.Context, *hsm.Session) error, then func(error)) (err error) {
	select {
	case d.turn <- struct{}{}:
		defer func() {
			then(err)
			<-d.turn
		}()
	case <-ctx.Done():
		err = fmt.Errorf("others waited for it all the time: %w", context.Cause(ctx))
		then(err)
		return err
	}
	if away() {
		return errAway
	}
	ctx, cancel := context.WithTimeout(ctx, d.times.try)
	defer cancel()
	isNew, err := d.attempt(ctx, commands)
	var over *hsm.SessionError
	if errors.As(err, &over) && !isNew && ctx.Err() == nil {
		_, err = d.attempt(ctx, commands)
	}
	return err
}

// attempt runs commands on the session, or on a new one. The caller has its turn.
func (d *device) attempt(ctx context.Context, commands func(context.Context, *hsm.Session) error) (isNew bool, err error) {
	if d.session == nil {
		isNew = true
		if err := d.open(ctx); err != nil {
			return isNew, err
		}
	}
	err = commands(ctx, d.session)
	d.judge(err)
	return isNew, err
}

// open opens a session. The caller has its turn.
func (d *device) open(ctx context.Context) error {
	now := time.Now()
	for len(d.abandoned) > 0 && now.Sub(d.abandoned[0]) > sessionIdle {
		d.abandoned = d.abandoned[1:]
	}
	if len(d.abandoned) >= maxAbandoned {
		return fmt.Errorf("no session is opened for now, because %d broke within %v: %w", len(d.abandoned), sessionIdle, d.broke)
	}
	if len(d.abandoned) > 0 {
		if err := d.answers(ctx); err != nil {
			return err
		}
	}
	session, err := hsm.Authenticate(ctx, d.transport, d.authKey, d.key)
	if err != nil {
		var refused *hsm.DeviceError
		if !errors.As(err, &refused) && !leftNothing(err) {
			d.abandon(err) // the device may have one that waits for us
		}
		return d.noSession(err)
	}
	d.session = session
	err = d.ask(ctx, session) // which also learns how long a message may be
	d.judge(err)
	return err
}

// noSession says why the device opens no session for us, in the words of doc/yubihsm.md.
func (d *device) noSession(err error) error {
	var refused *hsm.DeviceError
	switch {
	case errors.Is(err, hsm.ErrWrongKey):
		return fmt.Errorf("the password is not the one of authentication key 0x%04x: %w", d.authKey, err)
	case !errors.As(err, &refused):
		return err
	case refused.Code == hsm.ObjectNotFound:
		return fmt.Errorf("there is no authentication key 0x%04x: %w", d.authKey, err)
	case refused.Code == hsm.SessionsFull:
		return fmt.Errorf("all 16 sessions are in use: %w", err)
	}
	return err
}

// answers returns nil if the device answers at all, without a session. One that hangs would
// get a session at each attempt otherwise, and be left alone for half a minute when it is back.
func (d *device) answers(ctx context.Context) error {
	_, err := hsm.ReadDeviceInfo(ctx, d.transport)
	if _, refused := errors.AsType[*hsm.DeviceError](err); refused {
		return nil
	}
	return err
}

// ask asks the device who it is, and how full its log is. The caller has its turn.
func (d *device) ask(ctx context.Context, s *hsm.Session) error {
	info, err := s.DeviceInfo(ctx)
	if err != nil {
		return err
	}
	d.asked = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Info = info
	return nil
}

// isLogFull reports whether a device refuses because its log has no room.
func isLogFull(err error) bool {
	var refused *hsm.DeviceError
	return errors.As(err, &refused) && refused.Code == hsm.LogFull
}

// leftNothing reports whether a session that could not be opened cannot be on the device
// either: it was not reached, or is without power. Otherwise a device that was away for two
// seconds would be left alone for half a minute.
func leftNothing(err error) bool {
	if connector, ok := errors.AsType[*hsm.ConnectorError](err); ok {
		return connector.Unsent || connector.Status != 0
	}
	if _, ok := errors.AsType[*hsm.USBError](err); ok {
		return slices.ContainsFunc([]error{hsm.ErrNoDevice, syscall.ENODEV, syscall.ENOENT, syscall.ESHUTDOWN, syscall.EBUSY, syscall.EACCES, syscall.EPERM},
			func(cause error) bool { return errors.Is(err, cause) })
	}
	return false
}

// judge forgets a session that is over. It is never closed on the device: its id may be that
// of somebody else's.
func (d *device) judge(err error) {
	var over *hsm.SessionError
	if !errors.As(err, &over) {
		return
	}
	var refused *hsm.DeviceError
	if !errors.As(err, &refused) || refused.Code != hsm.InvalidSession {
		d.abandon(over.Cause)
	}
	d.session = nil
}

// abandon notes that there may be a session on the device that we do not use any more.
func (d *device) abandon(why error) {
	d.abandoned = append(d.abandoned, time.Now())
	d.broke = why
}

// keepAlive asks the device who it is, from time to time, which also keeps a session that
// nobody uses. One that is over is replaced, before a vote has to wait for that.
func (d *device) keepAlive(ctx context.Context, then func(error)) {
	d.do(ctx, func() bool { return false }, func(ctx context.Context, s *hsm.Session) error {
		if time.Since(d.asked) < d.times.keepAlive {
			return nil
		}
		return d.ask(ctx, s)
	}, then)
}

// mark notes whether the device failed, and reports whether that is news.
func (d *device) mark(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	isNews := (d.status.Failed == nil) != (err == nil)
	if isNews {
		d.status.Since = time.Now()
	}
	d.status.Failed = err
	return isNews
}

// info returns what the device said of itself.
func (d *device) info() hsm.DeviceInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.Info
}

// failed returns why the device does not sign, nil if nothing is wrong with it.
func (d *device) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.Failed
}

// signed counts a signature.
func (d *device) signed(k *target, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Signatures++
	d.status.Took += took
	d.status.LastTook = took
	if d.status.Log.Size > 0 {
		d.status.Log.Used = min(d.status.Log.Used+1, d.status.Log.Size)
	}
	of := d.tally[k]
	d.tally[k] = tally{of.signatures + 1, of.took + took, took}
}

// of returns the status, with the signatures of one key.
func (d *device) of(k *target) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, of := d.status, d.tally[k]
	s.Signatures, s.Took, s.LastTook = of.signatures, of.took, of.last
	s.Log.Foreign = d.foreign[k.id]
	return s
}

// forget drops what was counted of a key.
func (d *device) forget(k *target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tally, k)
}

// close closes the session, if the device still answers, and the transport. Nobody uses
// the device any more.
func (d *device) close() {
	ctx, cancel := context.WithTimeout(context.Background(), d.times.try)
	defer cancel()
	select {
	case d.turn <- struct{}{}:
		if d.session != nil {
			d.session.Close(ctx)
		}
	case <-ctx.Done():
	}
	d.transport.Close()
}
