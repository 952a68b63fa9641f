package yubihsm

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"privyseal/internal/key/yubihsm"
	"privyseal/internal/oplog"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
)

// pool has the devices that the chains of this process use: one session a device, and one
// queue before it, however many chains have their keys there. The zero value is ready.
type pool struct {
	mu   sync.Mutex
	open map[string]*devices
	salt []byte // of the digests of passwords; of this process alone
}

// place is devices, our login there, and where their logs are drained to.
type place struct {
	addresses []string
	reach.Login
	audit string
}

// devices are those of one table. They close with the last of their keys.
type devices struct {
	*yubihsm.Devices
	opening int            // keys that are about to be opened
	opened  int            // keys in use
	back    []*yubihsm.Key // keys that were given back, see settle
}

// key returns the key that r names. Devices that are in use are not opened twice.
func (p *pool) key(ctx context.Context, at place, r yubihsm.Reference) (*pooledKey, error) {
	name, d, err := p.enter(ctx, at)
	if err != nil {
		return nil, err
	}
	key, err := d.Key(ctx, r.ID, r.Public) // which may wait for a device
	p.mu.Lock()
	defer p.mu.Unlock()
	d.opening--
	if err == nil {
		d.opened++
	}
	p.settle(name, d)
	if err != nil {
		return nil, err
	}
	return &pooledKey{Key: key, pool: p, name: name, devices: d}, nil
}

// enter returns the devices that a key is about to be opened on.
func (p *pool) enter(ctx context.Context, at place) (name string, d *devices, err error) {
	password, err := at.Password()
	if err != nil {
		return "", nil, err
	}
	defer clear(password)
	p.mu.Lock()
	defer p.mu.Unlock()
	name = p.name(at, password)
	if d = p.open[name]; d == nil {
		ds, err := at.Open(at.addresses, at.audit, oplog.Of(ctx))
		if err != nil {
			return "", nil, err
		}
		d = &devices{Devices: ds}
	}
	if p.open == nil {
		p.open = map[string]*devices{}
	}
	p.open[name] = d
	d.opening++
	return name, d, nil
}

// settle closes the keys that were given back, and the devices with the last one. While
// none is in use and one is about to be, they wait: the devices would close under that
// one. The caller holds the lock.
func (p *pool) settle(name string, d *devices) (err error) {
	if d.opened == 0 && d.opening > 0 {
		return nil
	}
	for _, key := range d.back {
		err = errors.Join(err, key.Close())
	}
	d.back = nil
	if d.opened == 0 {
		delete(p.open, name)
		err = errors.Join(err, d.Close())
	}
	return err
}

// name names devices and our login there. A new password is somebody else.
func (p *pool) name(at place, password []byte) string {
	if p.salt == nil {
		p.salt = make([]byte, 32)
		rand.Read(p.salt) // never fails
	}
	digest := hmac.New(sha256.New, p.salt)
	digest.Write(password)
	return fmt.Sprintf("%q %d %q %q %x", at.addresses, at.ID, at.File, at.audit, digest.Sum(nil))
}

// pooledKey is a key on devices of a pool.
type pooledKey struct {
	*yubihsm.Key
	pool    *pool
	name    string
	devices *devices
	closed  sync.Once
}

// Devices implements [provider.Watched].
func (k *pooledKey) Devices() []provider.Device { return Devices(k.Status()) }

// Devices returns how devices do as a [provider.Watched] has it.
func Devices(status []yubihsm.Status) []provider.Device {
	list := make([]provider.Device, len(status))
	for i, s := range status {
		d := &list[i]
		*d = provider.Device{Address: s.Address, Since: s.Since, Signatures: s.Signatures, Took: s.Took.Seconds(), LastTook: s.LastTook.Seconds()}
		if s.Info.Serial != 0 {
			d.Name, d.LogUsed, d.LogSize = s.Info.String(), s.Info.LogUsed, s.Info.LogSize
		}
		if d.Audited = s.Log.Audited; d.Audited && s.Log.Size > 0 {
			d.LogUsed, d.LogSize = s.Log.Used, s.Log.Size
		}
		if d.Foreign = s.Log.Foreign; s.Log.Problem != nil {
			d.Undrained = s.Log.Problem.Error()
		}
		if s.Failed != nil {
			d.Failed = s.Failed.Error()
		}
	}
	return list
}

// Close gives the key back. With the last one of their keys the devices close.
func (k *pooledKey) Close() (err error) {
	k.closed.Do(func() {
		k.pool.mu.Lock()
		defer k.pool.mu.Unlock()
		k.devices.opened--
		k.devices.back = append(k.devices.back, k.Key)
		err = k.pool.settle(k.name, k.devices)
	})
	return err
}
