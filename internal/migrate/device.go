package migrate

import (
	"fmt"

	"privyseal/internal/pubkey"
	"privyseal/internal/secret"
	"privyseal/internal/shell"
)

// Device is the YubiHSM 2 that holds keys of an installation, and who its signer is there.
type Device struct {
	Address string // http://HOST:PORT of a yubihsm-connector, usb://SERIAL, or usb:// of the only one
	AuthKey uint16 // object id of the authentication key

	// PasswordFile holds the password of that. Where it is the config of the installation,
	// Password is the password.
	PasswordFile string
	Password     secret.Text
}

// DeviceKey is a key in a Device.
type DeviceKey struct {
	*Device
	ID   uint16      // object id
	Type pubkey.Type // as which the installation uses it
}

// String says which key it is, and where.
func (k *DeviceKey) String() string {
	return fmt.Sprintf("the key %s of the YubiHSM at %s", objectName(k.ID), k.Address)
}

// takeWords are the flags of privyseal init that take the key.
func (k *DeviceKey) takeWords() string {
	password := "FILE"
	if k.Password.Reveal() == "" {
		password = shell.File(k.PasswordFile)
	}
	return fmt.Sprintf("--provider yubihsm --yubihsm-take --yubihsm-key-id %s --yubihsm-device %s --yubihsm-auth-key %d --yubihsm-password-file %s",
		objectName(k.ID), shell.Word(k.Address), k.AuthKey, password)
}

// objectName returns an object id as the tools of the device print it.
func objectName(id uint16) string { return fmt.Sprintf("0x%04x", id) }
