package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/key/yubihsm/backup"
	"privyseal/internal/key/yubihsm/words"
	"privyseal/yubihsm"
)

// Secrets are what 24 words make for a device. The caller wipes them.
type Secrets struct {
	admin yubihsm.AuthenticationKey
	roles map[uint16]yubihsm.AuthenticationKey
	wrap  []byte
}

// Derive derives the secrets of words.
func Derive(w words.Words) (*Secrets, error) {
	text, err := w.Text()
	if err != nil {
		return nil, err
	}
	defer clear(text)
	s := &Secrets{admin: yubihsm.DeriveKey(text), roles: map[uint16]yubihsm.AuthenticationKey{}}
	for _, r := range roles {
		password, err := w.Password(r.role)
		if err != nil {
			s.Wipe()
			return nil, err
		}
		s.roles[r.ID] = yubihsm.DeriveKey(password)
		clear(password)
	}
	if s.wrap, err = w.WrapKey(wrapKey); err != nil {
		s.Wipe()
		return nil, err
	}
	return s, nil
}

// Wipe takes the secrets out of memory.
func (s *Secrets) Wipe() {
	s.admin.Wipe()
	for _, key := range s.roles {
		key.Wipe()
	}
	clear(s.wrap)
}

// Logins are those by which the words open a device: of one that is set up, and of one whose
// set-up was interrupted.
func (s *Secrets) Logins() []Login { return []Login{s.login(adminRole), s.login(temporaryRole)} }

func (s *Secrets) login(i item) Login { return Login{ID: i.ID, Key: s.key(i), words: true} }

// key returns the authentication key of an item.
func (s *Secrets) key(i item) yubihsm.AuthenticationKey {
	if key, ok := s.roles[i.ID]; ok {
		return key
	}
	return s.admin
}

// Begun reports whether the words have begun to set a device up, so that they may finish
// it, or have finished it: Empty devices are not begun. What is on it of a set-up has to be
// what the words make, or the error is a [*DiffersError]; other objects may be there too.
// Nothing is changed.
func (d Device) Begun(ctx context.Context, at State, s *Secrets) (bool, error) {
	if !at.As.words {
		// With the factory's authentication key, that of the operator shows it: it is made first.
		if at.find(roles[0]) == nil {
			return false, nil
		}
		err := d.answers(ctx, roles[0], s)
		if _, differs := errors.AsType[*DiffersError](err); differs {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, d.check(ctx, at, s)
}

// check refuses what is on a device of a set-up and is not what the words make.
func (d Device) check(ctx context.Context, at State, s *Secrets) error {
	for _, i := range all()[1:] { // the administrator's key opens the device, or is the factory's
		o := at.find(i)
		switch {
		case o == nil:
			continue
		case !i.is(*o):
			return &DiffersError{d, i.kind, i.ID, "other capabilities, domains or another algorithm"}
		}
		if err := d.holds(ctx, at.As, i, s); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether an object has the secret that the words make.
func (d Device) holds(ctx context.Context, as Login, i item, s *Secrets) error {
	switch i.kind {
	case yubihsm.TypeAuthenticationKey:
		return d.answers(ctx, i, s)
	case yubihsm.TypeWrapKey:
		return d.wraps(ctx, as, s)
	}
	return nil
}

// answers reports whether an authentication key has the password that the words make.
func (d Device) answers(ctx context.Context, i item, s *Secrets) error {
	err := d.visit(ctx, s.login(i), func(context.Context, *yubihsm.Session, yubihsm.DeviceInfo) error { return nil })
	if is, _ := shut(err); is {
		return &DiffersError{d, i.kind, i.ID, "another password"}
	}
	return err
}

// wraps reports whether the device's wrap key is the one that the words make: it encrypts
// something that ours decrypts.
func (d Device) wraps(ctx context.Context, as Login, s *Secrets) error {
	return d.visit(ctx, as, func(ctx context.Context, session *yubihsm.Session, _ yubihsm.DeviceInfo) error {
		sample := make([]byte, 16)
		rand.Read(sample) // never fails
		blob, err := session.WrapData(ctx, wrapKey, sample)
		if err != nil {
			return err
		}
		if plain, err := backup.Unwrap(s.wrap, blob); err != nil || !bytes.Equal(plain, sample) {
			return &DiffersError{d, primary.kind, primary.ID, "another secret"}
		}
		return nil
	})
}

// Make sets a device up that is empty, or that the words have begun, and has all of it
// checked at last: each authentication key opens a session, and the wrap key is the right one.
// The labels have the time at. What gets lost on the way is done again; after an error the
// device can be set up with the same words, by Make.
func (d Device) Make(ctx context.Context, s *Secrets, at time.Time) (err error) {
	for range attempts {
		if err = d.once(ctx, s, at); err == nil || !passes(err) || d.wait(ctx) != nil {
			break
		}
	}
	return err
}

// once is one attempt.
func (d Device) once(ctx context.Context, s *Secrets, at time.Time) error {
	was, err := d.Look(ctx, append(s.Logins(), Factory())...)
	if err != nil {
		return err
	}
	if began, err := d.Begun(ctx, was, s); err != nil {
		return err
	} else if !began && !was.Empty() {
		return &DiffersError{d, yubihsm.TypeAuthenticationKey, was.As.ID, "objects beside it that others have made"}
	}
	m := &maker{s, at, was.Info.Serial}
	stages := []struct {
		as   Login
		work func(*maker, context.Context, *yubihsm.Session) error
	}{
		{Factory(), (*maker).begin}, {s.login(temporaryRole), (*maker).exchange}, {s.login(adminRole), (*maker).end},
	}
	for i, stage := range stages {
		if was.As.words && (i == 0 || was.As.ID == Admin && i == 1) {
			continue // it was done before an interruption
		}
		if err := d.visit(ctx, stage.as, func(ctx context.Context, session *yubihsm.Session, _ yubihsm.DeviceInfo) error {
			return stage.work(m, ctx, session)
		}); err != nil {
			return err
		}
	}
	return d.verify(ctx, s)
}

// maker makes objects on one device.
type maker struct {
	secrets *Secrets
	at      time.Time
	serial  uint32
}

// begin makes everything while the factory's authentication key is there, and at last a
// temporary one in its place.
func (m *maker) begin(ctx context.Context, s *yubihsm.Session) error {
	if err := m.complete(ctx, s); err != nil {
		return err
	}
	return m.need(ctx, s, temporaryRole)
}

// exchange puts the administrator's authentication key in place of the factory's. A
// device that is cut off between the two has the temporary one.
func (m *maker) exchange(ctx context.Context, s *yubihsm.Session) error {
	if err := m.complete(ctx, s); err != nil {
		return err
	}
	// If one is there, it is the factory's: the words would have opened the administrator's.
	if err := s.DeleteObject(ctx, adminRole.kind, adminRole.ID); err != nil && !isNone(err) {
		return err
	}
	return m.need(ctx, s, adminRole)
}

// end deletes the temporary authentication key, never another's with its id.
func (m *maker) end(ctx context.Context, s *yubihsm.Session) error {
	if err := m.complete(ctx, s); err != nil {
		return err
	}
	o, err := s.ObjectInfo(ctx, temporaryRole.kind, temporaryRole.ID)
	if isNone(err) {
		return nil
	}
	if err != nil || !isTemporary(o) {
		return err
	}
	return s.DeleteObject(ctx, o.Type, o.ID)
}

// complete makes what is missing beside authentication keys that may do everything.
func (m *maker) complete(ctx context.Context, s *yubihsm.Session) error {
	for _, i := range all()[1:] {
		if err := m.need(ctx, s, i); err != nil {
			return err
		}
	}
	return nil
}

// need makes an object that is missing.
func (m *maker) need(ctx context.Context, s *yubihsm.Session, i item) error {
	if _, err := s.ObjectInfo(ctx, i.kind, i.ID); !isNone(err) {
		return err
	}
	o := i.named(m.at)
	switch i.kind {
	case yubihsm.TypeAuthenticationKey:
		_, err := s.PutAuthenticationKey(ctx, o, m.secrets.key(i))
		return err
	case yubihsm.TypeWrapKey:
		_, err := s.PutWrapKey(ctx, o, m.secrets.wrap)
		return err
	}
	text, err := newReport(m.serial, m.at)
	if err != nil {
		return err
	}
	_, err = s.PutOpaque(ctx, o, text)
	return err
}

// isNone reports whether a device says that there is no such object.
func isNone(err error) bool {
	refused, ok := errors.AsType[*yubihsm.DeviceError](err)
	_, over := errors.AsType[*yubihsm.SessionError](err)
	return ok && !over && refused.Code == yubihsm.ObjectNotFound
}

// verify refuses a device that is not set up as a whole.
func (d Device) verify(ctx context.Context, s *Secrets) error {
	is, err := d.Look(ctx, s.login(adminRole))
	if err != nil {
		return err
	}
	for _, i := range all() {
		if is.find(i) == nil {
			return fmt.Errorf("the YubiHSM at %s was given %v 0x%04x, and does not have it", d.Address, i.kind, i.ID)
		}
	}
	if o := is.find(temporaryRole); o != nil && isTemporary(*o) {
		return fmt.Errorf("the YubiHSM at %s was asked to delete authentication key 0x%04x, and still has it", d.Address, temporary)
	}
	return d.check(ctx, is, s)
}
