package reach

import (
	"context"
	"errors"
	"fmt"

	"privyseal/internal/key/yubihsm"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// ObjectAt names an object on a device: "wrap key 0x0001 of the YubiHSM at usb://…". what
// is its kind, with an article where the sentence needs one.
func ObjectAt(what string, id uint16, address string) string {
	return fmt.Sprintf("%s 0x%04x of the YubiHSM at %s", what, id, address)
}

// Refused reports whether a device refused a command with a code.
func Refused(err error, code hsm.ErrorCode) bool {
	refused, ok := errors.AsType[*hsm.DeviceError](err)
	return ok && refused.Code == code
}

// PublicKey returns the public half of a key that can be a chain's.
func PublicKey(ctx context.Context, s *hsm.Session, address string, id uint16) (public pubkey.Key, err error) {
	there, err := s.PublicKey(ctx, id)
	if err == nil {
		public, err = yubihsm.PublicOf(there)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", ObjectAt("the key", id, address), err)
	}
	return public, err
}
