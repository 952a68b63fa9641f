package yubihsm

import (
	"context"
	"errors"
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
	if other, ok := errors.AsType[*otherKeyError](err); ok {
		return other
	}
	if isLogFull(err) {
		err = d.explainLog(err)
	}
	return fmt.Errorf("the key 0x%04x on the YubiHSM at %s: %w", id, d.address, err)
}

// explainLog says why a log is full.
func (d *device) explainLog(err error) error {
	d.mu.Lock()
	problem, audited := d.status.Log.Problem, d.status.Log.Audited
	d.mu.Unlock()
	switch {
	case !audited:
		return fmt.Errorf("%w, and there is no audit_dir for the signer to drain it into", err)
	case problem != nil:
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

// errSignature is a signature that does not verify, of a device that has the right key.
var errSignature = errors.New("it made a signature that does not verify, though it has the right key: it computes wrongly")

// misled says why a signature does not verify: another key is there, or the device computes
// wrongly.
func (d *device) misled(ctx context.Context, s *hsm.Session, k *target) error {
	there, err := s.PublicKey(ctx, k.id)
	var public pubkey.Key
	if err == nil {
		public, err = PublicOf(there)
	}
	switch {
	case err != nil:
		return fmt.Errorf("it made a signature that does not verify, and does not say which key it has: %w", err)
	case public.Equal(k.public):
		return errSignature
	}
	return &otherKeyError{d.address, k.id, public, k.public}
}

// exchangedError is what each device says on which another key is in place of ours.
type exchangedError struct{ error }

func (e *exchangedError) Unwrap() error { return e.error }

// Lasting says that it does not pass until somebody brings the key back.
func (e *exchangedError) Lasting() bool { return true }

// why joins the errors of devices that did not sign.
func why(failed []error) error {
	err := errors.Join(failed...)
	for _, f := range failed {
		if _, other := errors.AsType[*otherKeyError](f); !other {
			return err
		}
	}
	return &exchangedError{err}
}
