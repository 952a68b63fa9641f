package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// noVote is what is signed to see whether a key signs. It is not a message of any chain.
const noVote = "privyseal: does this key sign?"

// allows says what chain speed signatures allow that take so long.
func allows(took time.Duration) string {
	seconds := func(signatures time.Duration) string {
		return fmt.Sprintf("%.2gs", math.Max((signatures*took).Seconds(), 0.01))
	}
	return fmt.Sprintf("all chains of the device together can have a block every %s, and with vote extensions every %s", seconds(2), seconds(3))
}

// probe has a device sign with a key what is not a message of any chain, three times, and
// returns how long that took, the middle one.
func probe(ctx context.Context, l login, address string, r yubihsm.Reference) (time.Duration, error) {
	var took []time.Duration
	err := trial(ctx, l, address, r, func(d *devices, sign func() ([]byte, error)) error {
		for range 3 {
			if _, err := sign(); err != nil {
				return err
			}
			took = append(took, d.Status()[0].LastTook)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(took)
	return took[1], nil
}

// sign returns the signature of a device over what is not a message of any chain, verified.
func sign(ctx context.Context, l login, address string, r yubihsm.Reference) (signature []byte, err error) {
	err = trial(ctx, l, address, r, func(_ *devices, sign func() ([]byte, error)) (err error) {
		signature, err = sign()
		return err
	})
	return signature, err
}

// trial opens a key on one device for as long as f takes, which can have it sign [noVote].
func trial(ctx context.Context, l login, address string, r yubihsm.Reference, f func(d *devices, sign func() ([]byte, error)) error) error {
	d, err := start([]string{address}, l, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	key, err := d.Key(ctx, r.ID, r.Public)
	if err != nil {
		return err
	}
	return explain(r.Public.Type(), f(d, func() ([]byte, error) { return key.Sign(nil, []byte(noVote), nil) }))
}

// explain says what is missing where a device does not let us sign.
func explain(t pubkey.Type, err error) error {
	var refused *hsm.DeviceError
	if errors.As(err, &refused) && refused.Code == hsm.InsufficientPermissions {
		return fmt.Errorf("%w: our authentication key and this key both need the capability %v, and a domain in common", err, kinds[t].sign)
	}
	return err
}
