package yubihsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"privyseal/internal/pubkey"
)

// Key is a key that devices hold. It is a [crypto.Signer] whose public key is a
// [pubkey.Key], and safe for concurrent use.
type Key struct {
	devices *Devices
	*target
}

// Key returns the key with an object id, which has to be the one with this public key on
// each device that can be reached now. A device that cannot be is compared before it signs
// again; if none can be reached, signing fails until one is back.
func (ds *Devices) Key(ctx context.Context, id uint16, public pubkey.Key) (*Key, error) {
	if err := signsWith(public); err != nil {
		return nil, err
	}
	if ds.ctx.Err() != nil {
		return nil, errClosed
	}
	k := &target{id, public, public.Verifier()}
	ctx, cancel := ds.within(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, ds.times.patience)
	defer cancel()
	for _, d := range ds.list {
		err := d.compare(ctx, k)
		var other *otherKeyError
		if errors.As(err, &other) {
			return nil, err
		}
		ds.note(d, err)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.keys = append(ds.keys, k)
	return &Key{ds, k}, nil
}

// signsWith refuses a public key of a type that no chain has on a YubiHSM.
func signsWith(public pubkey.Key) error {
	if public.Type() != pubkey.Ed25519 && public.Type() != pubkey.Secp256k1 {
		return fmt.Errorf("a YubiHSM signs with ed25519 and secp256k1, and the public key is of type %q", public.Type())
	}
	return nil
}

// Public returns the public key, a [pubkey.Key].
func (k *Key) Public() crypto.PublicKey { return k.public }

// PublicKey returns the public key.
func (k *Key) PublicKey() pubkey.Key { return k.public }

// Close lets go of the devices, which are closed with the last of their keys.
func (k *Key) Close() error { return k.devices.release(k.target) }

// Status returns how each device does, in the order of the config, with the signatures of
// this key. It waits for none.
func (k *Key) Status() []Status {
	list := make([]Status, len(k.devices.list))
	for i, d := range k.devices.list {
		list[i] = d.of(k.target)
	}
	return list
}

// String returns type and address.
func (k *Key) String() string { return "YubiHSM key " + k.public.String() }

// Format prints what String returns, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue is what slog logs: what String returns.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Sign has a device sign the whole message, and returns a signature that verifies, as
// CometBFT encodes it: 64 bytes, of secp256k1 r and the lower s. It returns within
// [Patience]. rand is not used; opts must be nil or crypto.Hash(0). A message that does not
// fit into the buffer of the device is an [*hsm.TooLongError].
func (k *Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != nil && opts != crypto.Hash(0) {
		return nil, errors.New("cannot sign: a key of a YubiHSM takes the whole message, and no options")
	}
	return k.devices.sign(k.target, message)
}
