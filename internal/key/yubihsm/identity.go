package yubihsm

import (
	"context"
	"fmt"

	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// public returns the public key of an object on a device.
func (d *device) public(ctx context.Context, id uint16) (public pubkey.Key, err error) {
	err = d.do(ctx, func() bool { return false }, func(ctx context.Context, s *hsm.Session) error {
		there, err := s.PublicKey(ctx, id)
		if err == nil {
			public, err = PublicOf(there)
		}
		return err
	}, func(error) {})
	return public, err
}

// explain says which key and device an error is about.
func (d *device) explain(id uint16, err error) error {
	if isLogFull(err) {
		err = d.explainLog(err)
	}
	return fmt.Errorf("the key 0x%04x on the YubiHSM at %s: %w", id, d.address, err)
}

// explainLog says why a log is full.
func (d *device) explainLog(err error) error {
	d.mu.Lock()
	problem := d.status.Log.Problem
	d.mu.Unlock()
	if problem != nil {
		return fmt.Errorf("%w, and it cannot be drained: %w", err, problem)
	}
	return err
}

// otherKeyError is a device that holds another key under an id than it should.
type otherKeyError struct {
	address     string
	id          uint16
	there, want pubkey.Key
}

func (e *otherKeyError) Error() string {
	return fmt.Sprintf("the key 0x%04x on the YubiHSM at %s is %v, not %v", e.id, e.address, e.there, e.want)
}

// compare returns nil if the device holds a key.
func (d *device) compare(ctx context.Context, k *target) error {
	there, err := d.public(ctx, k.id)
	if err != nil {
		return d.explain(k.id, err)
	}
	if !there.Equal(k.public) {
		return &otherKeyError{d.address, k.id, there, k.public}
	}
	return nil
}
