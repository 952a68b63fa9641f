package yubihsm

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"

	"privyseal/internal/key/yubihsm"
	"privyseal/internal/oplog"
)

// pool has the devices that the chains of this process use: one session a device, and one
// queue before it, however many chains have their keys there. The zero value is ready.
type pool struct {
	mu   sync.Mutex // held while keys are opened and closed
	open map[string]*devices
	salt []byte // of the digests of passwords; of this process alone
}

// devices are those of one table, with as many keys as are in use.
type devices struct {
	*yubihsm.Devices
	keys int
}

// key returns the key that r names. Devices that are in use are not opened twice.
func (p *pool) key(ctx context.Context, addresses []string, l login, r yubihsm.Reference) (*pooledKey, error) {
	password, err := l.password()
	if err != nil {
		return nil, err
	}
	defer clear(password)
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.name(addresses, l, password)
	d := p.open[name]
	if d == nil {
		if d, err = start(addresses, l, oplog.Of(ctx)); err != nil {
			return nil, err
		}
	}
	key, err := d.Key(ctx, r.ID, r.Public)
	if err != nil {
		if d.keys == 0 {
			d.Close()
		}
		return nil, err
	}
	if p.open == nil {
		p.open = map[string]*devices{}
	}
	d.keys++
	p.open[name] = d
	return &pooledKey{Key: key, pool: p, name: name}, nil
}

// name names devices and who we are there. A new password is somebody else.
func (p *pool) name(addresses []string, l login, password []byte) string {
	if p.salt == nil {
		p.salt = make([]byte, 32)
		rand.Read(p.salt) // never fails
	}
	digest := hmac.New(sha256.New, p.salt)
	digest.Write(password)
	return fmt.Sprintf("%q %d %q %x", addresses, l.id, l.file, digest.Sum(nil))
}

// start opens devices, which need not be there. log may be nil.
func start(addresses []string, l login, log *slog.Logger) (*devices, error) {
	key, err := l.key()
	if err != nil {
		return nil, err
	}
	ds, err := yubihsm.Open(yubihsm.Config{Addresses: addresses, AuthKey: l.id, Key: key, Log: log})
	if err != nil {
		return nil, err
	}
	return &devices{Devices: ds}, nil
}

// pooledKey is a key on devices of a pool.
type pooledKey struct {
	*yubihsm.Key
	pool   *pool
	name   string
	closed sync.Once
}

// Close forgets the key. With the last one of their keys the devices close.
func (k *pooledKey) Close() (err error) {
	k.closed.Do(func() {
		p := k.pool
		p.mu.Lock()
		defer p.mu.Unlock()
		err = k.Key.Close()
		d := p.open[k.name]
		if d.keys--; d.keys == 0 {
			delete(p.open, k.name)
		}
	})
	return err
}
