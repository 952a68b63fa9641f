package yubihsm

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/key/soft"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/ops/yubihsm/keys"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// making is a key that is made, imported or taken.
type making struct {
	devices    []string
	own, admin reach.Login // who signs, and who makes it
	id         uint16
	label      string
	take       bool
	exportable bool
	as         pubkey.Type // that is made
	secret     *soft.Key   // that is imported, nil for none

	domains map[string]hsm.Domains // of the one who signs, on each device

	key         yubihsm.Reference // what there is in the end
	attestation []byte            // of a key that was made, as it stands in a file, not verified
	unattested  string            // why there is none
}

// hold makes the key, imports it or looks at it, and has each device sign with it, with the
// signer's own authentication key. It returns what the chain's key file holds.
func (m *making) hold(ctx context.Context) (r yubihsm.Reference, err error) {
	// What is wrong with one of the devices shows before anything is made on another.
	r, missing, err := m.inspect(ctx)
	if err != nil {
		return r, err
	}
	for i, address := range m.devices {
		if missing[i] {
			if err := m.make(ctx, address, &r); err != nil {
				return r, err
			}
		}
	}
	for _, address := range m.devices {
		if _, err := m.own.Probe(ctx, address, r); err != nil {
			return r, m.made(err)
		}
	}
	return r, nil
}

// inspect looks at the devices, and reports on which of them the key is still to be made.
func (m *making) inspect(ctx context.Context) (r yubihsm.Reference, missing []bool, err error) {
	r.ID = m.id
	if m.secret != nil {
		r.Public, m.as = m.secret.PublicKey(), m.secret.Type()
	}
	m.domains = map[string]hsm.Domains{}
	missing = make([]bool, len(m.devices))
	for i, address := range m.devices {
		there, err := m.look(ctx, address)
		if err != nil {
			return r, nil, err
		}
		if missing[i], err = m.judge(&r, address, there); err != nil {
			return r, nil, err
		}
	}
	return r, missing, nil
}

// made says what comes next after a key was made that does not sign.
func (m *making) made(err error) error {
	if m.take {
		return err
	}
	failed, next := cure.Split(err.Error())
	if next != "" {
		next += "; "
	}
	return cure.Add(cli.Actf("the key is on the device now, and does not sign: %s", failed), "%sthen type the same command with --yubihsm-take", next)
}

// look returns the public key that a device has under the id, zero for none.
func (m *making) look(ctx context.Context, address string) (public pubkey.Key, err error) {
	err = m.own.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		own, err := s.ObjectInfo(ctx, hsm.TypeAuthenticationKey, m.own.ID)
		if err != nil {
			return fmt.Errorf("cannot look at authentication key 0x%04x of the YubiHSM at %s: %w", m.own.ID, address, err)
		}
		m.domains[address] = own.Domains
		there, err := s.PublicKey(ctx, m.id)
		if reach.Refused(err, hsm.ObjectNotFound) {
			return m.may(own, address)
		}
		if err == nil {
			public, err = yubihsm.PublicOf(there)
		}
		if err != nil {
			return fmt.Errorf("the key 0x%04x on the YubiHSM at %s: %w", m.id, address, err)
		}
		m.as = public.Type()
		return m.may(own, address)
	})
	return public, err
}

// may refuses an authentication key that cannot sign with the key.
func (m *making) may(own hsm.ObjectInfo, address string) error {
	if sign := reach.Signs(m.as); !own.Capabilities.Has(sign) {
		return fmt.Errorf("authentication key 0x%04x of the YubiHSM at %s may not sign with %s keys: it lacks the capability %v", m.own.ID, address, m.as, sign)
	}
	return nil
}

// judge reports whether the key is still to be made on a device that has there, and refuses
// what is not the right one.
func (m *making) judge(r *yubihsm.Reference, address string, there pubkey.Key) (missing bool, err error) {
	object := fmt.Sprintf("object 0x%04x on the YubiHSM at %s", m.id, address)
	switch {
	case there.IsZero() && m.take:
		return false, cli.Actf("there is no key to take: the YubiHSM at %s has no asymmetric key 0x%04x in a domain of authentication key 0x%04x", address, m.id, m.own.ID)
	case there.IsZero():
		return true, nil
	case !m.take && m.secret == nil, m.secret != nil && !there.Equal(r.Public):
		return false, cure.Add(cli.Actf("%s is taken: it is the key %v, and nothing is overwritten", object, there),
			"choose another --yubihsm-key-id, or use that key with --yubihsm-take")
	case m.take && !r.Public.IsZero() && !there.Equal(r.Public):
		return false, cli.Actf("%s is the key %v, and the one on %s is %v: the devices of a set hold the same keys", object, there, m.devices[0], r.Public)
	}
	r.Public = there
	return false, nil
}

// otherAdmin is what an operator does about a right that the maker of a key lacks.
const otherAdmin = "name one that may with --yubihsm-admin-auth-key and --yubihsm-admin-password-file"

// make makes or imports the key on a device.
func (m *making) make(ctx context.Context, address string, r *yubihsm.Reference) error {
	k := keys.Key{ID: m.id, Label: m.label, Type: m.as, Secret: m.secret, Exportable: m.exportable}
	return m.admin.Visit(ctx, address, func(ctx context.Context, s *hsm.Session) error {
		admin, err := keys.Maker{Login: m.admin, Other: otherAdmin}.May(ctx, s, address, k, 0)
		if err != nil {
			return err
		}
		domains := admin.Domains & m.domains[address]
		if domains == 0 {
			return cure.Add(cli.Actf("%s has no domain in common with authentication key 0x%04x, which is to sign",
				reach.ObjectAt("authentication key", m.admin.ID, address), m.own.ID), otherAdmin)
		}
		made := false
		r.Public, made, err = k.Make(ctx, s, address, domains)
		switch {
		case errors.Is(err, keys.ErrTaken):
			return cure.Add(err, "choose another --yubihsm-key-id")
		case made && r.Public.IsZero():
			return m.made(err)
		case err == nil && m.secret == nil:
			m.attest(ctx, s, address, admin)
		}
		return err
	})
}

// attest has the device attest a key that it has made. A key without an attestation signs as
// well, so that a failure is only noted.
func (m *making) attest(ctx context.Context, s *hsm.Session, address string, admin hsm.ObjectInfo) {
	if missing := keys.Attests &^ admin.Capabilities; missing != 0 {
		m.unattested = fmt.Sprintf("%s lacks the capability %v", reach.ObjectAt("authentication key", m.admin.ID, address), missing)
		return
	}
	e, err := keys.Attest(ctx, s, address, m.id)
	if err != nil {
		m.unattested = err.Error()
		return
	}
	m.attestation = e.PEM()
}
