package wrapped

import (
	"context"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// wrapping is who brings keys out of devices and into them under a wrap key.
type wrapping struct {
	reach.Administrator
	login reach.Login
	wrap  uint16     // object id of the wrap key
	want  pubkey.Key // that is restored, zero if nobody said which
}

// find finds out our login, and returns the devices that are meant.
func (w *wrapping) find(app *cli.App) (devices []string, err error) {
	p, err := w.Place(app)
	w.login = p.Login
	return p.Devices, err
}

// wrapKey returns what the wrap key is, and refuses an authentication key or a wrap key that
// lacks a capability.
func (w *wrapping) wrapKey(ctx context.Context, s *hsm.Session, address string, needs hsm.Capabilities) (key hsm.ObjectInfo, err error) {
	if _, err := w.login.Own(ctx, s, address, needs); err != nil {
		return key, err
	}
	key, err = s.ObjectInfo(ctx, hsm.TypeWrapKey, w.wrap)
	switch {
	case reach.Refused(err, hsm.ObjectNotFound):
		err = cure.Add(cli.Actf("there is no %s, in a domain of authentication key 0x%04x", reach.ObjectAt("wrap key", w.wrap, address), w.login.ID), "name another one with --wrap-key")
	case err != nil:
		err = fmt.Errorf("cannot look at %s: %w", reach.ObjectAt("wrap key", w.wrap, address), err)
	case !key.Capabilities.Has(needs):
		err = cure.Add(cli.Actf("%s is not for this: it lacks the capability %v", reach.ObjectAt("wrap key", w.wrap, address), needs), "name another one with --wrap-key")
	}
	return key, err
}

// export returns a backup of a key.
func (w *wrapping) export(ctx context.Context, address string, id uint16) (r yubihsm.Reference, blob []byte, err error) {
	r.ID = id
	err = w.login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		wrap, err := w.wrapKey(ctx, s, address, hsm.ExportWrapped)
		if err != nil {
			return err
		}
		key, err := s.ObjectInfo(ctx, hsm.TypeAsymmetricKey, id)
		switch {
		case reach.Refused(err, hsm.ObjectNotFound):
			return cli.Actf("there is no %s, in a domain of authentication key 0x%04x", reach.ObjectAt("asymmetric key", id, address), w.login.ID)
		case err != nil:
			return fmt.Errorf("cannot look at %s: %w", reach.ObjectAt("asymmetric key", id, address), err)
		case !key.Capabilities.Has(hsm.ExportableUnderWrap):
			return cli.Actf("%s may not be exported: it was made without the capability %v, and nothing adds that later", reach.ObjectAt("the key", id, address), hsm.ExportableUnderWrap)
		case !wrap.Delegated.Has(key.Capabilities):
			return cure.Add(cli.Actf("%s cannot wrap the key 0x%04x: it lacks the delegated capability %v", reach.ObjectAt("wrap key", w.wrap, address), id, key.Capabilities&^wrap.Delegated),
				"name another one with --wrap-key")
		}
		if r.Public, err = reach.PublicKey(ctx, s, address, id); err != nil {
			return err
		}
		if blob, err = s.ExportWrapped(ctx, w.wrap, hsm.TypeAsymmetricKey, id); err != nil {
			return fmt.Errorf("cannot export %s: %w", reach.ObjectAt("the key", id, address), err)
		}
		return nil
	})
	return r, blob, err
}

// restore brings a backup onto a device, and returns which key it is. It reports whether the
// key was there, and nothing has changed.
func (w *wrapping) restore(ctx context.Context, address string, blob []byte) (r yubihsm.Reference, there bool, err error) {
	err = w.login.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		if _, err := w.wrapKey(ctx, s, address, hsm.ImportWrapped); err != nil {
			return err
		}
		t, id, err := s.ImportWrapped(ctx, w.wrap, blob)
		switch {
		case reach.Refused(err, hsm.ObjectExists):
			there = true
			r, err = w.taken(ctx, s, address)
			return err
		case err != nil:
			return w.refusal(address, err)
		case t != hsm.TypeAsymmetricKey:
			return cli.Actf("the backup is not that of a key that signs votes: it was of type %v, and is %s now", t, reach.ObjectAt("object", id, address))
		}
		r.ID = id
		if r.Public, err = reach.PublicKey(ctx, s, address, id); err != nil {
			return cli.Actf("the backup is restored, and is not that of a key that signs votes: %w", err)
		}
		if !w.want.IsZero() && !r.Public.Equal(w.want) {
			return cli.Actf("the backup is restored, and is that of another key: %s is %v, not %v", reach.ObjectAt("the key", id, address), r.Public, w.want)
		}
		return nil
	})
	return r, there, err
}

// refusal says why a device does not import a backup.
func (w *wrapping) refusal(address string, err error) error {
	wrap := reach.ObjectAt("wrap key", w.wrap, address)
	switch {
	case reach.Refused(err, hsm.InvalidData):
		return cure.Add(cli.Actf("%s does not open the backup: it was made under another wrap key, or is damaged", wrap), "name the right one with --wrap-key, or take another copy of the backup")
	case reach.Refused(err, hsm.InsufficientPermissions):
		return cli.Actf("%s may not import the key of the backup: a capability of the key is not among the delegated ones of the wrap key or of authentication key 0x%04x, or the key is in a domain that authentication key is not in", wrap, w.login.ID)
	}
	return fmt.Errorf("cannot restore the backup on the YubiHSM at %s: %w", address, err)
}

// taken returns the wanted key, if the device that has the id of a backup taken has it.
func (w *wrapping) taken(ctx context.Context, s *hsm.Session, address string) (r yubihsm.Reference, err error) {
	refusal := cli.Actf("the object id of the backup's key is taken on the YubiHSM at %s, and nothing is overwritten", address)
	if w.want.IsZero() {
		return r, cure.Add(refusal, "if the key may be there already, name it with --public-key")
	}
	entries, err := s.ListObjects(ctx, hsm.Filter{Type: hsm.TypeAsymmetricKey})
	if err != nil {
		return r, fmt.Errorf("%w; cannot list its keys: %w", refusal, err)
	}
	for _, e := range entries {
		// One of another type is not the wanted one.
		if public, err := reach.PublicKey(ctx, s, address, e.ID); err == nil && public.Equal(w.want) {
			return yubihsm.Reference{ID: e.ID, Public: public}, nil
		}
	}
	return r, fmt.Errorf("%w: the key there is not %v", refusal, w.want)
}
