package reach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/cli"
	"privyseal/internal/cure"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/secret"
	hsm "privyseal/yubihsm"
)

// Login is an authentication key: its object id, and the file with its password.
type Login struct {
	ID   uint16
	File string
	Text secret.Text // the password itself, where File has more than that in it, or there is none
}

const (
	// MaxPassword bounds a password, in bytes.
	MaxPassword = 1024
	// visitTime bounds what is done on a device in one session, beside signing, and openTime
	// of that the wait for the session: a device that hangs is left soon.
	visitTime = 20 * time.Second
	openTime  = 5 * time.Second
)

// Password returns the password. The caller clears it.
func (l Login) Password() ([]byte, error) {
	text := []byte(l.Text.Reveal())
	if len(text) == 0 {
		var err error
		if text, err = regular.ReadSecret("password file", l.File, provider.Credentials(), MaxPassword+2); err != nil {
			return nil, err
		}
	}
	password := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(password) == 0 || len(password) > MaxPassword || bytes.ContainsAny(password, "\r\n\x00") {
		clear(text)
		return nil, fmt.Errorf("the password file %s does not hold a password, which is one line of up to %d bytes", l.File, MaxPassword)
	}
	return password, nil
}

// key returns the authentication key. The caller wipes it.
func (l Login) key() (hsm.AuthenticationKey, error) {
	password, err := l.Password()
	if err != nil {
		return hsm.AuthenticationKey{}, err
	}
	defer clear(password)
	return hsm.DeriveKey(password), nil
}

// Visit opens a session on the device at an address for as long as f takes, up to 20
// seconds. Errors of opening it say which device and authentication key they are about;
// those of f are returned as they are.
func (l Login) Visit(ctx context.Context, address string, f func(context.Context, *hsm.Session) error) error {
	key, err := l.key()
	if err != nil {
		return err
	}
	defer key.Wipe()
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	transport, err := hsm.Open(address)
	if err != nil {
		return err
	}
	defer transport.Close()
	session, err := l.session(ctx, transport, key)
	if err != nil {
		return l.refused(address, err)
	}
	defer session.Close(ctx)
	return f(ctx, session)
}

// session opens a session.
func (l Login) session(ctx context.Context, transport hsm.Transport, key hsm.AuthenticationKey) (*hsm.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	return hsm.Authenticate(ctx, transport, l.ID, key)
}

// refused says why a device opens no session.
func (l Login) refused(address string, err error) error {
	switch {
	case Refused(err, hsm.ObjectNotFound):
		err := fmt.Errorf("the YubiHSM at %s has no authentication key 0x%04x", address, l.ID)
		if l.ID > 4 { // which no set-up makes
			return err
		}
		return cure.Add(err, "if it is a new device, set it up: %s", cure.Command("privyseal", "yubihsm", "setup", "--device", address))
	case Refused(err, hsm.SessionsFull):
		return cure.Add(fmt.Errorf("all 16 sessions of the YubiHSM at %s are in use", address), "wait half a minute: a session ends by itself when it is not used")
	case errors.Is(err, hsm.ErrWrongKey):
		return fmt.Errorf("the password in %s is not the one of authentication key 0x%04x of the YubiHSM at %s", l.File, l.ID, address)
	case errors.Is(err, hsm.ErrMalformed):
		return fmt.Errorf("what answers at %s is not a YubiHSM connector: %w", address, err)
	}
	return fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
}

// Own returns what the authentication key of a session is, and refuses one that lacks a
// capability: an operator can name another one.
func (l Login) Own(ctx context.Context, s *hsm.Session, address string, needs hsm.Capabilities) (own hsm.ObjectInfo, err error) {
	if own, err = s.ObjectInfo(ctx, hsm.TypeAuthenticationKey, l.ID); err != nil {
		return own, fmt.Errorf("cannot look at %s: %w", ObjectAt("authentication key", l.ID, address), err)
	}
	if !own.Capabilities.Has(needs) {
		return own, cure.Add(cli.Actf("%s may not do this: it lacks the capability %v", ObjectAt("authentication key", l.ID, address), needs&^own.Capabilities),
			"name one that may with --auth-key and --password-file")
	}
	return own, nil
}
