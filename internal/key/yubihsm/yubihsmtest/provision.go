package yubihsmtest

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"
)

// Provision puts an object into the device as if it had been imported. The secret is that
// of the command: a private key of 32 bytes, a wrap key, data; of an authentication key it
// is the password.
func (d *Device) Provision(t testing.TB, o Object, secret []byte) {
	t.Helper()
	if err := d.Put(o, secret); err != nil {
		t.Fatal(err)
	}
}

// Put is Provision outside of tests.
func (d *Device) Put(o Object, secret []byte) error {
	kept, err := keptOf(o, secret)
	if err != nil {
		return fmt.Errorf("cannot put object %d into the simulator: %w", o.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.Domains == 0 {
		o.Domains = 0xffff
	}
	delete(d.objects, ref{o.Type, o.ID})
	d.add(&object{Object: o, origin: imported, secret: kept})
	return nil
}

func keptOf(o Object, secret []byte) ([]byte, error) {
	switch o.Type {
	case AuthenticationKey:
		return passwordKeys(string(secret)), nil
	case AsymmetricKey:
		return expand(o.Algorithm, secret)
	case HMACKey:
		return hmacSecret(o.Algorithm, secret)
	case WrapKey:
		if len(secret) != wrapKeySize(o.Algorithm) {
			return nil, WrongLength
		}
	}
	return slices.Clone(secret), nil
}

// ProvisionEd25519 puts a new Ed25519 key into the device that may sign, and returns its
// public key.
func (d *Device) ProvisionEd25519(t testing.TB, id uint16) ed25519.PublicKey {
	t.Helper()
	d.Provision(t, Object{Type: AsymmetricKey, ID: id, Algorithm: Ed25519, Capabilities: CanSignEdDSA}, random(32))
	return d.Public(t, id)
}

// ProvisionAuth puts an authentication key into the device.
func (d *Device) ProvisionAuth(t testing.TB, id uint16, password string, can Capabilities) {
	t.Helper()
	d.Provision(t, Object{Type: AuthenticationKey, ID: id, Algorithm: AES128Auth, Capabilities: can}, []byte(password))
}

// Audit has the device log signatures and some other commands from now on, and, with force,
// refuse them while its log is full.
func (d *Device) Audit(force bool, commands ...byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range append(commands, SignEdDSA, SignECDSA) {
		d.log.audited[c] = auditOn
	}
	if d.log.force = auditOff; force {
		d.log.force = auditOn
	}
}

// Swap puts another key into the place of an asymmetric one, behind everybody's back.
func (d *Device) Swap(t testing.TB, id uint16) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.objects[ref{AsymmetricKey, id}]
	if o == nil {
		t.Fatalf("the simulator has no key %d", id)
	}
	secret, err := newSecret(o.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	o.secret = secret
}

// Remove takes an object away.
func (d *Device) Remove(typ Type, id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, ref{typ, id})
}

// Objects returns what is in the device, by id.
func (d *Device) Objects() (list []Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.refs() {
		list = append(list, d.objects[r].Object)
	}
	return list
}

// Public returns the public key of an asymmetric key: 32 bytes of Ed25519, two
// coordinates of the others.
func (d *Device) Public(t testing.TB, id uint16) []byte {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.objects[ref{AsymmetricKey, id}]
	if o == nil {
		t.Fatalf("the simulator has no key %d", id)
	}
	return slices.Clone(publicOf(o.Algorithm, o.secret))
}
