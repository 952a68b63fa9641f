package aiakos

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"privyseal/internal/config"
	"privyseal/internal/key/soft/keyfile"
	"privyseal/internal/key/yubihsm"
	"privyseal/internal/oplog"
	ops "privyseal/internal/ops/yubihsm"
	"privyseal/internal/provider"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

// The variables of the Aiakos of Certus One, which had no other configuration. With the
// first of them a YubiHSM 2 signs, in place of whoever holds the key of the home folder's
// chain; which key it has to be, the state and all else are the home folder's.
const (
	envURL      = "AIAKOS_URL"               // host:port of yubihsm-connector; also http://… and usb://SERIAL
	envKey      = "AIAKOS_SIGNING_KEY"       // the key's object id, in decimal
	envAuthKey  = "AIAKOS_AUTH_KEY"          // the authentication key's; 1 without it
	envPassword = "AIAKOS_AUTH_KEY_PASSWORD" // "password" without it
	envImport   = "AIAKOS_IMPORT_KEY"        // TRUE: put the node's key file there if nothing is
)

// device is what the variables say.
type device struct {
	address  string
	id       uint16
	authKey  uint16
	password []byte
	imports  bool
}

// readDevice returns nil if the variables say nothing. Half of them is an error: a node
// that is meant to have its key on a device must not sign with another one.
func readDevice() (*device, error) {
	address := os.Getenv(envURL)
	if address == "" {
		for _, name := range []string{envKey, envAuthKey, envPassword, envImport} {
			if os.Getenv(name) != "" {
				return nil, fmt.Errorf("%s is set, and %s, the address of the YubiHSM, is not", name, envURL)
			}
		}
		return nil, nil
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	d := &device{address: address, password: []byte(valueOf(envPassword, "password"))}
	var err error
	if d.id, err = objectID(envKey, ""); err != nil {
		return nil, err
	}
	if d.authKey, err = objectID(envAuthKey, "1"); err != nil {
		return nil, err
	}
	switch value := os.Getenv(envImport); value {
	case "", "FALSE":
	case "TRUE":
		d.imports = true
	default:
		return nil, fmt.Errorf("%s is %.20q; it is TRUE, or is not set", envImport, value)
	}
	return d, nil
}

func valueOf(name, without string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return without
}

// objectID reads an id in decimal, from 1 to 65534.
func objectID(name, without string) (uint16, error) {
	value := valueOf(name, without)
	id, err := strconv.ParseUint(value, 10, 16)
	if err != nil || id == 0 || id == 0xffff {
		return 0, fmt.Errorf("%s is %.20q; it is an object id of the YubiHSM, from 1 to 65534", name, value)
	}
	return uint16(id), nil
}

// onDevice is a provider whose key a device has. The public key is still the provider's.
type onDevice struct {
	provider.Holder
	*device
	keyFile string // of the node, for the import
}

// onDevices returns a table in which every key is on the device.
func onDevices(table provider.Table, d *device, keyFile string) provider.Table {
	for i := range table {
		table[i].Holder = onDevice{table[i].Holder, d, keyFile}
	}
	return table
}

// Open implements provider.Local. The device has to answer, and to hold the chain's key.
func (h onDevice) Open(ctx context.Context, c *config.Config, ch config.Chain) (provider.Key, error) {
	public, err := h.Public(c, ch)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, yubihsm.Patience)
	defer cancel()
	if h.imports {
		if err := h.importKey(ctx, public); err != nil {
			return nil, fmt.Errorf("cannot import the key into the YubiHSM at %s: %w", h.address, err)
		}
	}
	devices, err := yubihsm.Open(yubihsm.Config{
		Addresses: []string{h.address}, AuthKey: h.authKey, Key: hsm.DeriveKey(h.password), Log: oplog.Of(ctx),
	})
	if err != nil {
		return nil, err
	}
	// A node that starts without its key would miss block after block.
	if _, err := devices.Public(ctx, h.id); err != nil {
		devices.Close()
		return nil, err
	}
	key, err := devices.Key(ctx, h.id, public)
	if err != nil {
		devices.Close()
		return nil, err
	}
	return watched{key}, nil
}

// watched is a key on the device.
type watched struct{ *yubihsm.Key }

// Devices implements [provider.Watched].
func (k watched) Devices() []provider.Device { return ops.Devices(k.Status()) }

// importKey puts the node's key on the device if there is none under its id, and does
// nothing if there is one: whether it is the right one is seen when it is opened. The key
// in the file has to be the chain's.
func (h onDevice) importKey(ctx context.Context, public pubkey.Key) error {
	transport, err := hsm.Open(h.address)
	if err != nil {
		return err
	}
	defer transport.Close() // a device on the USB is for one transport at a time
	authKey := hsm.DeriveKey(h.password)
	defer authKey.Wipe()
	session, err := hsm.Authenticate(ctx, transport, h.authKey, authKey)
	if err != nil {
		return err
	}
	defer session.Close(ctx)
	_, err = session.PublicKey(ctx, h.id)
	refused, _ := errors.AsType[*hsm.DeviceError](err)
	if refused == nil || refused.Code != hsm.ObjectNotFound {
		return err
	}
	key, err := keyfile.ReadForeign(h.keyFile, public.Type())
	if err != nil {
		return err
	}
	defer key.Wipe()
	secret, isEd25519 := key.Ed25519()
	defer clear(secret)
	switch {
	case !key.PublicKey().Equal(public):
		return fmt.Errorf("%s has the key %v, and the chain's is %v", h.keyFile, key.PublicKey(), public)
	case !isEd25519:
		return fmt.Errorf("%s has a key of type %s, and only ed25519 keys are imported", h.keyFile, key.Type())
	}
	_, err = session.PutAsymmetricKey(ctx, hsm.Object{
		ID: h.id, Label: "aiakos", Domains: hsm.Domain(1), Capabilities: hsm.SignEdDSA, Algorithm: hsm.Ed25519,
	}, secret[:ed25519.SeedSize])
	return err
}
