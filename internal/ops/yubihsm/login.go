package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"privyseal/internal/cure"
	"privyseal/internal/provider"
	"privyseal/internal/regular"
	"privyseal/internal/secret"
	hsm "privyseal/yubihsm"
)

// login is an authentication key: its object id, and the file with its password.
type login struct {
	id   uint16
	file string
	text secret.Text // the password, where the file has more than that in it
}

const (
	maxPassword = 1024 // bytes
	// visitTime bounds what is done on a device in one session, beside signing.
	visitTime = 20 * time.Second
)

// password returns the password. The caller clears it.
func (l login) password() ([]byte, error) {
	text := []byte(l.text.Reveal())
	if len(text) == 0 {
		var err error
		if text, err = regular.ReadSecret("password file", l.file, provider.Credentials(), maxPassword+2); err != nil {
			return nil, err
		}
	}
	password := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(password) == 0 || len(password) > maxPassword || bytes.ContainsAny(password, "\r\n\x00") {
		clear(text)
		return nil, fmt.Errorf("the password file %s does not hold a password, which is one line of up to %d bytes", l.file, maxPassword)
	}
	return password, nil
}

// key returns the authentication key. The caller wipes it.
func (l login) key() (hsm.AuthenticationKey, error) {
	password, err := l.password()
	if err != nil {
		return hsm.AuthenticationKey{}, err
	}
	defer clear(password)
	return hsm.DeriveKey(password), nil
}

// visit opens a session on a device for as long as f takes.
func (l login) visit(ctx context.Context, address string, f func(context.Context, *hsm.Session) error) error {
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
	session, err := hsm.Authenticate(ctx, transport, l.id, key)
	if err != nil {
		return l.refused(address, err)
	}
	defer session.Close(ctx)
	return f(ctx, session)
}

// refused says why a device opens no session.
func (l login) refused(address string, err error) error {
	var device *hsm.DeviceError
	if errors.As(err, &device) {
		switch device.Code {
		case hsm.ObjectNotFound:
			return fmt.Errorf("the YubiHSM at %s has no authentication key 0x%04x", address, l.id)
		case hsm.SessionsFull:
			return cure.Add(fmt.Errorf("all 16 sessions of the YubiHSM at %s are in use", address), "wait half a minute: a session ends by itself when it is not used")
		}
	}
	switch {
	case errors.Is(err, hsm.ErrWrongKey):
		return fmt.Errorf("the password in %s is not the one of authentication key 0x%04x of the YubiHSM at %s", l.file, l.id, address)
	case errors.Is(err, hsm.ErrMalformed):
		return fmt.Errorf("what answers at %s is not a YubiHSM connector: %w", address, err)
	}
	return fmt.Errorf("cannot use the YubiHSM at %s: %w", address, err)
}
