package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// Config says which devices hold the keys, and our login there.
type Config struct {
	// Addresses are those of the devices, in the order in which they are asked:
	// http://HOST:PORT of a yubihsm-connector, or usb://SERIAL.
	Addresses []string
	// AuthKey is the object id of our authentication key, the same on all devices.
	AuthKey uint16
	// Key is the authentication key itself. It is wiped when the devices are closed, and if
	// they cannot be opened.
	Key hsm.AuthenticationKey
	// Audit is the folder that the logs of the devices are drained into; "" leaves them alone.
	Audit string
	// Log hears of devices that fail and come back. It may be nil.
	Log *slog.Logger
}

// Patience bounds how long Sign takes, which a node waits for.
const Patience = 3 * time.Second

// A precommit with its extension needs two signatures. When the first device hangs, the node
// has both of another one after 1.2 s at most: a try, and twice the 146 ms of a slow device.
var standard = times{patience: Patience, try: 900 * time.Millisecond, keepAlive: 18 * time.Second, tend: 2 * time.Second}

// Devices are those that hold the same keys. They are safe for concurrent use, and closed
// with their last key, or by Close.
type Devices struct {
	list  []*device
	times times
	log   *slog.Logger

	ctx   context.Context // until Close
	end   context.CancelFunc
	tends sync.WaitGroup

	key    hsm.AuthenticationKey
	closed sync.Once

	mu   sync.Mutex
	keys []*target
}

// Open prepares the use of devices. A connector is not asked yet, and need not be there; a
// device on the USB has to be.
func Open(c Config) (*Devices, error) { return open(c, standard) }

func open(c Config, t times) (*Devices, error) {
	if len(c.Addresses) == 0 {
		return nil, errors.New("cannot use the YubiHSM: no address")
	}
	ds := &Devices{times: t, log: c.Log, key: c.Key}
	ds.ctx, ds.end = context.WithCancel(context.Background())
	for _, address := range c.Addresses {
		transport, err := hsm.Open(address)
		if err != nil {
			ds.Close()
			return nil, err
		}
		d := &device{address: address, transport: transport, authKey: c.AuthKey, key: c.Key, times: t,
			turn: make(chan struct{}, 1), status: Status{Address: address, Since: time.Now()}, tally: map[*target]tally{}, foreign: map[uint16]int{}, audit: unaudited{}}
		ds.list = append(ds.list, d)
	}
	for _, d := range ds.list {
		ds.tends.Go(func() { ds.tend(d) })
		if c.Audit != "" {
			clerk := newClerk(c.Audit, d, ds.log, func(err error) { ds.note(d, err) }, ds.ids)
			d.audit, d.status.Log.Audited = clerk, true
			ds.tends.Go(func() { clerk.run(ds.ctx) })
		}
	}
	return ds, nil
}

// within returns a context that ends with ctx, and with Close.
func (ds *Devices) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ds.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// Public returns the public key of an object on the first device that answers.
func (ds *Devices) Public(ctx context.Context, id uint16) (public pubkey.Key, err error) {
	ctx, cancel := ds.within(ctx)
	defer cancel()
	for _, d := range ds.order() {
		if public, err = d.public(ctx, id); err == nil {
			return public, nil
		}
		err = d.explain(id, err)
	}
	return pubkey.Key{}, err
}

// order returns the devices in the order in which they are asked: those of which nothing is
// wrong, as far as we know, in front.
func (ds *Devices) order() []*device {
	list := slices.Clone(ds.list)
	slices.SortStableFunc(list, func(a, b *device) int {
		switch fa, fb := a.failed() != nil, b.failed() != nil; {
		case fa && !fb:
			return 1
		case fb && !fa:
			return -1
		}
		return 0
	})
	return list
}

// others reports whether another device than d may sign.
func (ds *Devices) others(d *device) bool {
	return slices.ContainsFunc(ds.list, func(o *device) bool { return o != d && o.failed() == nil })
}

// sign asks one device after the other, and once more those whose trouble may be over.
func (ds *Devices) sign(k *target, message []byte) ([]byte, error) {
	if ds.ctx.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithTimeout(ds.ctx, ds.times.patience)
	defer cancel()
	var failed []error
	ask := ds.order()
	for round := 0; round < 2 && len(ask) > 0; round++ {
		var again []*device
		for _, d := range ask {
			signature, err := ds.signOn(ctx, d, k, message)
			if err == nil {
				return signature, nil
			}
			failed = append(failed, d.explain(k.id, err))
			if ctx.Err() != nil || isTooLong(err) {
				return nil, why(last(failed, len(ds.list)))
			}
			if mayPass(err) || d.audit.relieve(ctx, err) {
				again = append(again, d)
			}
		}
		ask = again
	}
	return nil, why(last(failed, len(ds.list)))
}

// mayPass reports whether a device that failed with err may sign right afterwards: it was
// the way to it, or the session. What a device says about the key or us stays true.
func mayPass(err error) bool {
	var refused *hsm.DeviceError
	var over *hsm.SessionError
	switch {
	case errors.As(err, &over):
		return true
	case errors.As(err, &refused):
		return refused.Code == hsm.InvalidSession // it went away between the two halves of a handshake
	}
	var other *otherKeyError
	return !errors.Is(err, hsm.ErrWrongKey) && !errors.Is(err, errSignature) && !errors.As(err, &other)
}

var errClosed = errors.New("the key of the YubiHSM was closed")

// last returns the last n errors.
func last(errs []error, n int) []error { return errs[max(0, len(errs)-n):] }

// signOn has a device sign, and marks it if it does not.
func (ds *Devices) signOn(ctx context.Context, d *device, k *target, message []byte) (signature []byte, err error) {
	var took time.Duration
	before := d.failed()
	away := func() bool { return before == nil && d.failed() != nil && ds.others(d) }
	err = d.do(ctx, away, func(ctx context.Context, s *hsm.Session) (err error) {
		err = d.audit.sign(ctx, k.asks(d.authKey, message), func() (err error) {
			began := time.Now()
			signature, err = k.ask(ctx, s, message)
			took = time.Since(began)
			return err
		})
		if err == nil && !k.verify(message, signature) {
			err = d.misled(ctx, s, k)
		}
		return err
	}, func(err error) {
		switch {
		case err == nil:
			d.signed(k, took)
			ds.note(d, nil)
		case !isTooLong(err) && err != errAway && ds.ctx.Err() == nil:
			ds.note(d, d.explain(k.id, err))
		}
	})
	if err != nil {
		return nil, err
	}
	return signature, nil
}

// note marks a device, and says so if that is news.
func (ds *Devices) note(d *device, err error) {
	if !d.mark(err) || ds.log == nil {
		return
	}
	if err != nil {
		ds.log.Warn("a YubiHSM failed", "address", d.address, "error", strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		ds.log.Info("a YubiHSM is back", "address", d.address)
	}
}

// tend looks after a device until Close: keeps its session alive, and finds out whether it
// is back after it failed.
func (ds *Devices) tend(d *device) {
	tick := time.NewTicker(ds.times.tend)
	defer tick.Stop()
	for {
		select {
		case <-ds.ctx.Done():
			return
		case <-tick.C:
		}
		if d.failed() == nil {
			d.keepAlive(ds.ctx, func(err error) {
				if err != nil && ds.ctx.Err() == nil {
					ds.note(d, fmt.Errorf("the YubiHSM at %s: %w", d.address, err))
				}
			})
			continue
		}
		if err := ds.probe(d); ds.ctx.Err() == nil {
			ds.note(d, err)
		}
	}
}

// probe returns nil if a device answers, and holds all keys.
func (ds *Devices) probe(d *device) error {
	ds.mu.Lock()
	keys := slices.Clone(ds.keys)
	ds.mu.Unlock()
	for _, k := range keys {
		if err := d.compare(ds.ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// Status returns how each device does, in the order of the config. It waits for none.
func (ds *Devices) Status() (list []Status) {
	for _, d := range ds.list {
		d.mu.Lock()
		list = append(list, d.status)
		d.mu.Unlock()
	}
	return list
}

// Close ends the sessions and wipes the authentication key. What is under way fails.
func (ds *Devices) Close() error {
	ds.closed.Do(func() {
		ds.end()
		ds.tends.Wait()
		var all sync.WaitGroup
		for _, d := range ds.list {
			all.Go(d.close)
		}
		all.Wait()
		ds.key.Wipe()
	})
	return nil
}

// ids returns the object ids of the keys.
func (ds *Devices) ids() (list []uint16) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, k := range ds.keys {
		list = append(list, k.id)
	}
	return list
}

// release forgets a key. With the last one the devices are closed.
func (ds *Devices) release(k *target) error {
	ds.mu.Lock()
	i := slices.Index(ds.keys, k)
	if i >= 0 {
		ds.keys = slices.Delete(ds.keys, i, i+1)
	}
	isLast := i >= 0 && len(ds.keys) == 0
	ds.mu.Unlock()
	for _, d := range ds.list {
		d.forget(k)
	}
	if isLast {
		return ds.Close()
	}
	return nil
}
