package yubihsm_test

import (
	"bytes"
	"context"
	"log"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

// What the examples run on: simulated devices with the authentication key 4, which may do all
// that they do, and the Ed25519 key 1.
const password = "a secret"

var address = newExample().URL()

// devices are those of the examples, which nobody stops before the tests end.
var devices []*yubihsmtest.Device

// newExample returns a new device, which is the last of devices.
func newExample() *yubihsmtest.Device {
	d, err := yubihsmtest.Launch("127.0.0.1:0", yubihsmtest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	all := yubihsmtest.Capabilities(yubihsm.AllCapabilities)
	for _, o := range []yubihsmtest.Object{
		{Type: yubihsmtest.AuthenticationKey, ID: 4, Algorithm: yubihsmtest.AES128Auth, Capabilities: all, Delegated: all, Domains: 1},
		{Type: yubihsmtest.AsymmetricKey, ID: 1, Algorithm: yubihsmtest.Ed25519, Capabilities: yubihsmtest.CanSignEdDSA, Domains: 1},
	} {
		secret := bytes.Repeat([]byte{1}, 32)
		if o.Type == yubihsmtest.AuthenticationKey {
			secret = []byte(password)
		}
		if err := d.Put(o, secret); err != nil {
			log.Fatal(err)
		}
	}
	devices = append(devices, d)
	return d
}

// begin opens a session on another device, as the first example does it, and returns what
// opens the next one.
func begin() (*yubihsm.Session, func() *yubihsm.Session) {
	device, err := yubihsm.Open(newExample().URL())
	if err != nil {
		log.Fatal(err)
	}
	authenticate := func() *yubihsm.Session {
		session, err := yubihsm.Authenticate(context.Background(), device, 4, yubihsm.DeriveKey([]byte(password)))
		if err != nil {
			log.Fatal(err)
		}
		return session
	}
	return authenticate(), authenticate
}

// restart takes the power from the last device, and gives it back.
func restart() {
	d := devices[len(devices)-1]
	d.Unplug()
	d.Plug()
}
