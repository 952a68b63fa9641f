package yubihsm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"syscall"
	"time"

	"privyseal/internal/config"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// Check implements [provider.Checker]: each device is asked who it is, and has to sign with
// each key what is not a message of any chain.
func (h *Holder) Check(ctx context.Context, r *provider.Report) {
	for _, name := range slices.Sorted(maps.Keys(r.Config.Tables[reach.Table])) {
		set, line := r.Config.Tables[reach.Table][name].(*reach.Set), r.Config.Line(reach.Table, name, "device")
		for _, address := range set.Device {
			inspection{r, set.Login(r.Config.Path), address, line, set.AuditDir != ""}.device(ctx, name)
		}
		for _, ch := range (reach.Place{Table: name, Config: r.Config}).Chains() {
			r.Chain = ch.Name
			h.attested(r, ch, line)
			r.Chain = ""
		}
	}
}

// isBusy reports whether another program has a device on the USB.
func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

// device adds the rows of a device, and of its keys if it can be used.
func (in inspection) device(ctx context.Context, name string) {
	if reach.IsOpen(in.address) {
		in.add(provider.Unsure, elsewhereCure, elsewhere, in.address)
	}
	var seen found
	err := in.login.Visit(ctx, in.address, func(ctx context.Context, s *hsm.Session) (err error) {
		seen, err = in.look(ctx, s)
		return err
	})
	if err != nil {
		in.failed(err)
		return
	}
	in.add(provider.Good, "", "%s is %v", in.address, seen.info)
	in.factory(seen)
	in.log(seen)
	in.audit(name, seen)
	for _, ch := range in.Config.Chains {
		if ch.Provider == reach.Table && ch.Table == name {
			in.Chain = ch.Name
			in.key(ctx, ch)
			in.Chain = ""
		}
	}
}

// failed adds the row of a device that cannot be used.
func (in inspection) failed(err error) {
	if isBusy(err) {
		in.add(provider.Unsure, "stop that one to have it checked", "%s is in use by another program, as by the signer that runs", in.address)
		return
	}
	in.add(provider.Bad, "", "%v", err)
}

// slowSignature is above what devices take, which is 105 to 146 ms.
const slowSignature = 300 * time.Millisecond

// key adds the row of a chain's key.
func (in inspection) key(ctx context.Context, ch config.Chain) {
	r, err := yubihsm.ReadReference(in.Config.Path(ch.Key))
	if err != nil {
		return // the row of the key says so
	}
	if in.drains && r.Public.Type() != pubkey.Ed25519 {
		in.add(provider.Unsure, "", "%s is not asked to sign with key 0x%04x: the audit could not tell that from a vote, as the device gets a digest of either", in.address, r.ID)
		return
	}
	took, err := in.login.Probe(ctx, in.address, r)
	if err != nil {
		in.add(provider.Bad, "", "%v", err)
		return
	}
	in.signs(r.ID, took)
}

// signs adds the row of a key that signs, and takes so long.
func (in inspection) signs(id uint16, took time.Duration) {
	verdict := provider.Good
	if took > slowSignature {
		verdict = provider.Unsure
	}
	in.add(verdict, "", "%s signs with key 0x%04x in %v: %s", in.address, id, took.Round(100*time.Microsecond), allows(took))
}

// allows says what chain speed signatures allow that take so long.
func allows(took time.Duration) string {
	seconds := func(signatures time.Duration) string {
		return fmt.Sprintf("%.2gs", math.Max((signatures*took).Seconds(), 0.01))
	}
	return fmt.Sprintf("all chains of the device together can have a block every %s, and with vote extensions every %s", seconds(2), seconds(3))
}
