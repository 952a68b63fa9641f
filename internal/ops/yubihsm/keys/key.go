// Package keys makes keys in YubiHSM 2 devices, imports them, and has the devices attest them:
// the commands generate, import and attest of `privyseal yubihsm`, and what `privyseal init`
// makes. Nothing on a device is overwritten, and what is wrong is said before a key is made.
package keys

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// Key is one that is to be on a device.
type Key struct {
	ID         uint16
	Label      string
	Type       pubkey.Type
	Secret     *soft.Key // to import; nil: the device makes the key
	Exportable bool      // under a wrap key
}

// capabilities returns those of the key.
func (k Key) capabilities() hsm.Capabilities {
	if k.Exportable {
		return reach.Signs(k.Type) | hsm.ExportableUnderWrap
	}
	return reach.Signs(k.Type)
}

// Check refuses a key that no device can have.
func (k Key) Check() error {
	if reach.Algorithm(k.Type) == 0 {
		return cli.Usagef("a YubiHSM signs with ed25519 and secp256k1 keys, and not with %s", k.Type)
	}
	if k.Secret == nil {
		return nil
	}
	if _, hasSeed := k.Secret.Ed25519(); k.Type == pubkey.Ed25519 && !hasSeed {
		return cli.Usagef("a YubiHSM takes ed25519 keys that have their seed, and this one has none")
	}
	return nil
}

// Maker is who makes keys in devices.
type Maker struct {
	reach.Login
	Other string // what an operator does about a right that it lacks
}

// May returns what the maker is on a device, and refuses one that may not make or import the
// key there, or lacks one of the capabilities more, which attesting the key takes.
func (m Maker) May(ctx context.Context, s *hsm.Session, address string, k Key, more hsm.Capabilities) (own hsm.ObjectInfo, err error) {
	name := reach.ObjectAt("authentication key", m.ID, address)
	if own, err = s.ObjectInfo(ctx, hsm.TypeAuthenticationKey, m.ID); err != nil {
		return own, fmt.Errorf("cannot look at %s: %w", name, err)
	}
	needs := hsm.GenerateAsymmetricKey
	if k.Secret != nil {
		needs = hsm.PutAsymmetricKey
	}
	switch {
	case !own.Capabilities.Has(needs):
		err = cli.Actf("%s may not make the key: it lacks the capability %v", name, needs)
	case !own.Delegated.Has(k.capabilities()):
		err = cli.Actf("%s may not make the key: it lacks the delegated capability %v", name, k.capabilities()&^own.Delegated)
	case !own.Capabilities.Has(more):
		err = cli.Actf("%s may not have the key attested: it lacks the capability %v", name, more&^own.Capabilities)
	}
	return own, cure.Add(err, "%s", m.Other)
}

// ErrTaken is an object id that is taken where the maker cannot look.
var ErrTaken = errors.New("is taken, in another domain than ours, and nothing is overwritten")

// Make has a device make or import the key, and returns its public half. made reports that
// the key is there from then on, even if something is wrong with it. An id that is taken is
// an [ErrTaken].
func (k Key) Make(ctx context.Context, s *hsm.Session, address string, domains hsm.Domains) (public pubkey.Key, made bool, err error) {
	o := hsm.Object{ID: k.ID, Label: k.Label, Domains: domains, Algorithm: reach.Algorithm(k.Type), Capabilities: k.capabilities()}
	if k.Secret == nil {
		_, err = s.GenerateAsymmetricKey(ctx, o)
	} else {
		private := k.Secret.Secret()
		defer clear(private)
		_, err = s.PutAsymmetricKey(ctx, o, private)
	}
	if reach.Refused(err, hsm.ObjectExists) {
		err = cli.Actf("%s %w", reach.ObjectAt("object", k.ID, address), ErrTaken)
	}
	if err != nil {
		if _, refused := errors.AsType[*hsm.DeviceError](err); !refused {
			err = fmt.Errorf("it is not known whether the YubiHSM at %s has made the key: %w", address, err)
		}
		return public, false, err
	}
	public, err = reach.PublicKey(ctx, s, address, k.ID)
	if err == nil && k.Secret != nil && !public.Equal(k.Secret.PublicKey()) {
		err = fmt.Errorf("the YubiHSM at %s has made the key %v of %v", address, public, k.Secret.PublicKey())
	}
	return public, true, err
}
