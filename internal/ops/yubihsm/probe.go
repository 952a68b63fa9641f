package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"privyseal/internal/key/yubihsm"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// kinds are the keys that a device has for chains.
var kinds = map[pubkey.Type]struct {
	algorithm hsm.Algorithm
	sign      hsm.Capabilities
}{
	pubkey.Ed25519:   {hsm.Ed25519, hsm.SignEdDSA},
	pubkey.Secp256k1: {hsm.K256, hsm.SignECDSA},
}

// probe has a device sign with a key what is not a message of any chain, three times, and
// returns how long that took, the middle one.
func probe(ctx context.Context, l login, address string, r yubihsm.Reference) (time.Duration, error) {
	d, err := start([]string{address}, l, nil)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	key, err := d.Key(ctx, r.ID, r.Public)
	if err != nil {
		return 0, err
	}
	took := make([]time.Duration, 3)
	for i := range took {
		if _, err := key.Sign(nil, []byte("privyseal: does this key sign?"), nil); err != nil {
			return 0, explain(r.Public.Type(), err)
		}
		took[i] = d.Status()[0].LastTook
	}
	slices.Sort(took)
	return took[1], nil
}

// explain says what is missing where a device does not let us sign.
func explain(t pubkey.Type, err error) error {
	var refused *hsm.DeviceError
	if errors.As(err, &refused) && refused.Code == hsm.InsufficientPermissions {
		return fmt.Errorf("%w: our authentication key and this key both need the capability %v, and a domain in common", err, kinds[t].sign)
	}
	return err
}
