package reach

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"privyseal/internal/key/yubihsm"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// kinds are the keys that a device has for chains.
var kinds = map[pubkey.Type]struct {
	algorithm hsm.Algorithm
	signs     hsm.Capabilities
}{
	pubkey.Ed25519:   {hsm.Ed25519, hsm.SignEdDSA},
	pubkey.Secp256k1: {hsm.K256, hsm.SignECDSA},
}

// Algorithm returns the algorithm of a chain's keys of a type on a device, 0 for a type
// that a device does not sign with.
func Algorithm(t pubkey.Type) hsm.Algorithm { return kinds[t].algorithm }

// Signs returns the capability that signing with keys of a type takes, of the key and of the
// authentication key.
func Signs(t pubkey.Type) hsm.Capabilities { return kinds[t].signs }

// NoVote is what is signed to see whether a key signs. It is shorter than any message of a
// chain, by which the log of a device distinguishes it.
const NoVote = "not a vote"

// Open opens devices for signing, which need not be there. Their logs are drained into the
// folder audit, if it is not "". log may be nil.
func (l Login) Open(addresses []string, audit string, log *slog.Logger) (*yubihsm.Devices, error) {
	key, err := l.key()
	if err != nil {
		return nil, err
	}
	return yubihsm.Open(yubihsm.Config{Addresses: addresses, AuthKey: l.ID, Key: key, Audit: audit, Log: log})
}

// Trial opens a key on one device for as long as f takes, which can have it sign [NoVote].
// Signatures are verified.
func (l Login) Trial(ctx context.Context, address string, r yubihsm.Reference, f func(d *yubihsm.Devices, sign func() ([]byte, error)) error) error {
	d, err := l.Open([]string{address}, "", nil)
	if err != nil {
		return err
	}
	defer d.Close()
	key, err := d.Key(ctx, r.ID, r.Public)
	if err != nil {
		return err
	}
	return explain(r.Public.Type(), f(d, func() ([]byte, error) { return key.Sign(nil, []byte(NoVote), nil) }))
}

// Probe has a device sign [NoVote] three times, and returns how long that took, the middle
// one.
func (l Login) Probe(ctx context.Context, address string, r yubihsm.Reference) (time.Duration, error) {
	var took []time.Duration
	err := l.Trial(ctx, address, r, func(d *yubihsm.Devices, sign func() ([]byte, error)) error {
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

// Sign returns the signature of a device over [NoVote].
func (l Login) Sign(ctx context.Context, address string, r yubihsm.Reference) (signature []byte, err error) {
	err = l.Trial(ctx, address, r, func(_ *yubihsm.Devices, sign func() ([]byte, error)) (err error) {
		signature, err = sign()
		return err
	})
	return signature, err
}

// explain says what is missing where a device does not let us sign.
func explain(t pubkey.Type, err error) error {
	if Refused(err, hsm.InsufficientPermissions) {
		return fmt.Errorf("%w: our authentication key and this key both need the capability %v, and a domain in common", err, Signs(t))
	}
	return err
}
