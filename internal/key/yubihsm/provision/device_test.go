package provision

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

// begun is Begun of the device as the words, or else the factory's password, open it.
func begun(t *testing.T, ours Device, s *Secrets) (State, bool, error) {
	t.Helper()
	at, err := ours.Look(t.Context(), append(s.Logins(), Factory())...)
	if err != nil {
		t.Fatal(err)
	}
	is, err := ours.Begun(t.Context(), at, s)
	return at, is, err
}

// Only a device of the factory is empty.
func TestEmpty(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	s := secretsOf(t, example)
	if is, began, err := begun(t, ours, s); !is.Empty() || !is.IsFactory() || began || err != nil || is.Info.Serial != yubihsmtest.DefaultSerial {
		t.Errorf("a new device: %+v, begun %v, %v", is, began, err)
	}
	d.ProvisionEd25519(t, 7)
	if is, began, err := begun(t, ours, s); is.Empty() || !is.IsFactory() || began || err != nil {
		t.Errorf("with a key: %+v, begun %v, %v", is, began, err)
	}
	if err := ours.Make(t.Context(), s, noon); err == nil || len(d.Objects()) != 2 {
		t.Errorf("set up over a key: %v", err)
	}
	d.Remove(yubihsmtest.AsymmetricKey, 7)
	weak := yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 1, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.All}
	d.Provision(t, weak, []byte("password"))
	if is, _, _ := begun(t, ours, s); is.Empty() {
		t.Error("an authentication key that may make nothing: it is empty")
	}
	weak.Delegated = yubihsmtest.All
	d.Provision(t, weak, []byte("another"))
	if _, err := ours.Look(t.Context(), Factory()); !locks(err, 1, false, false) {
		t.Errorf("another password: %v", err)
	}
	is, err := ours.Look(t.Context(), Factory(), Login{ID: 1, Key: yubihsm.DeriveKey([]byte("another"))})
	if err != nil || is.Empty() || is.IsFactory() {
		t.Errorf("another password: %+v, %v", is, err)
	}
}

// What opens nothing says what there is.
func TestLocked(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	d.Remove(yubihsmtest.AuthenticationKey, 1)
	if _, err := ours.Look(t.Context(), Factory()); !locks(err, 1, true, false) {
		t.Error(err)
	}
	d.ProvisionAuth(t, temporary, "lost", yubihsmtest.All)
	if _, err := ours.Look(t.Context(), Factory()); !locks(err, 1, true, true) {
		t.Error(err)
	}
	d.Unplug()
	if _, err := ours.Look(t.Context(), Factory()); err == nil || locks(err, 1, true, false) {
		t.Error(err)
	}
}

// What is on a device and is not what the words make is not taken for it, and stays.
func TestDiffers(t *testing.T) {
	for name, change := range map[string]func(d *yubihsmtest.Device){
		"a password": func(d *yubihsmtest.Device) { provisionAs(t, d, 2, 3, []byte("other")) },
		"a right":    func(d *yubihsmtest.Device) { d.ProvisionAuth(t, 4, "four", yubihsmtest.CanSignEdDSA) },
		"a wrap key": func(d *yubihsmtest.Device) { provisionAs(t, d, 4, 1, bytes.Repeat([]byte{1}, 32)) },
		"a report": func(d *yubihsmtest.Device) {
			d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.Opaque, ID: report, Algorithm: yubihsmtest.OpaqueData, Domains: 1}, []byte("mine"))
		},
	} {
		d, ours := at(t, yubihsmtest.Options{})
		s := secretsOf(t, example)
		if err := ours.Make(t.Context(), s, noon); err != nil {
			t.Fatal(err)
		}
		change(d)
		before := table(d)
		_, began, err := begun(t, ours, s)
		if _, differs := errors.AsType[*DiffersError](err); !began || !differs {
			t.Errorf("%s: %v, %v", name, began, err)
		}
		if err := ours.Make(t.Context(), s, noon); err == nil || table(d) != before {
			t.Errorf("%s: %v\n%s", name, err, table(d))
		}
	}
}

// provisionAs puts another secret in the place of an object's.
func provisionAs(t *testing.T, d *yubihsmtest.Device, typ yubihsmtest.Type, id uint16, secret []byte) {
	t.Helper()
	for _, o := range d.Objects() {
		if o.Type == typ && o.ID == id {
			d.Provision(t, o, secret)
			return
		}
	}
	t.Fatalf("no object 0x%04x", id)
}

// A set-up with the factory's password that other words began is not theirs, whatever else
// is there.
func TestOthersWords(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	d.Next(yubihsmtest.PutWrapKey, yubihsmtest.UnpluggedWithin())
	if err := ours.once(t.Context(), secretsOf(t, example), noon); err == nil {
		t.Fatal("nothing has failed")
	}
	d.Plug()
	if is, began, err := begun(t, ours, secretsOf(t, other)); began || err != nil || !is.IsFactory() || is.Empty() {
		t.Errorf("other words: %+v, %v, %v", is, began, err)
	}
	if _, began, err := begun(t, ours, secretsOf(t, example)); !began || err != nil {
		t.Errorf("its own words: %v, %v", began, err)
	}
}

// The temporary authentication key of tmkms goes, and one that is somebody's stays.
func TestTemporary(t *testing.T) {
	for label, stays := range map[string]bool{"yubihsm.rs temporary setup key": false, temporaryRole.role: false, "mine": true} {
		d, ours := at(t, yubihsmtest.Options{})
		s := secretsOf(t, example)
		if err := ours.Make(t.Context(), s, noon); err != nil {
			t.Fatal(err)
		}
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: temporary, Algorithm: yubihsmtest.AES128Auth, Label: label}, []byte("x"))
		if err := ours.Make(t.Context(), s, noon); err != nil || (len(d.Objects()) == 7) != stays {
			t.Errorf("%s: %v\n%s", label, err, table(d))
		}
	}
}

// A device that is another one than before is left alone.
func TestOtherDevice(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{Serial: 5})
	ours.Serial = 6
	s := secretsOf(t, example)
	for what, f := range map[string]func() error{
		"set up": func() error { return ours.Make(t.Context(), s, noon) },
		"reset":  func() error { return ours.Reset(t.Context(), Factory()) },
		"words": func() error {
			_, err := ours.Words(t.Context(), Factory(), make([]byte, 32))
			return err
		},
	} {
		other, ok := errors.AsType[*OtherError](f())
		if !ok || other.Serial != 5 || len(d.Objects()) != 1 || d.Count(yubihsmtest.ResetDevice) != 0 {
			t.Errorf("%s: %v\n%s", what, other, table(d))
		}
	}
}

// The words have both halves of the randomness in them.
func TestWords(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	given := bytes.Repeat([]byte{3}, 32)
	d.Next(yubihsmtest.GetPseudoRandom, yubihsmtest.Spoil(func([]byte) []byte { return given }))
	host := bytes.Repeat([]byte{4}, 32)
	got, err := ours.Words(t.Context(), Factory(), host)
	if err != nil {
		t.Fatal(err)
	}
	want, err := words.New(given, host)
	if err != nil {
		t.Fatal(err)
	}
	a, err := got.Text()
	b, err2 := want.Text()
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("%v, %v", err, err2)
	}
	if _, err := ours.Words(t.Context(), Factory(), host[1:]); err == nil {
		t.Error("31 bytes of the host are enough")
	}
}

// A reset whose answer is lost is looked at, and one that was lost is done again. An
// authentication key that may not do it changes nothing.
func TestReset(t *testing.T) {
	for name, fault := range map[string]yubihsmtest.Fault{"the answer": yubihsmtest.DropAnswer(), "the command": yubihsmtest.Drop(), "none": nil} {
		d, ours := at(t, yubihsmtest.Options{})
		d.ProvisionEd25519(t, 7)
		admin := Login{ID: 2, Key: yubihsm.DeriveKey([]byte("two"))}
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.CanReset}, []byte("two"))
		d.Next(yubihsmtest.ResetDevice, fault)
		if err := ours.Reset(t.Context(), admin); err != nil || len(d.Objects()) != 1 {
			t.Errorf("%s is lost: %v\n%s", name, err, table(d))
		}
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AuthenticationKey, ID: 2, Algorithm: yubihsmtest.AES128Auth, Capabilities: yubihsmtest.CanSignEdDSA}, []byte("two"))
		asked := d.Count(yubihsmtest.ResetDevice)
		if err := ours.Reset(t.Context(), admin); err == nil || len(d.Objects()) != 2 || d.Count(yubihsmtest.ResetDevice) != asked+1 {
			t.Errorf("without the right: %v\n%s", err, table(d))
		}
	}
}

// A device that is away for a while after a reset is waited for.
func TestResetComesBack(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	d.ProvisionEd25519(t, 7)
	d.Next(yubihsmtest.ResetDevice, yubihsmtest.UnpluggedWithin())
	done := make(chan error)
	go func() { done <- ours.Reset(t.Context(), Factory()) }()
	away(t, d)
	d.Plug()
	if err := <-done; err != nil || len(d.Objects()) != 1 {
		t.Errorf("%v\n%s", err, table(d))
	}
}

// Nothing opens a device with wiped secrets.
func TestWipe(t *testing.T) {
	_, ours := at(t, yubihsmtest.Options{})
	s := secretsOf(t, example)
	wrap := s.wrap
	s.Wipe()
	if !bytes.Equal(wrap, make([]byte, 32)) {
		t.Errorf("%x is left", wrap)
	}
	if _, err := ours.Look(t.Context(), s.Logins()...); err == nil {
		t.Error("wiped secrets open it")
	}
	operators := Login{ID: 1, Key: yubihsm.DeriveKey([]byte("password"))}
	operators.Wipe()
	Factory().Wipe()
	if _, err := ours.Look(t.Context(), operators); err == nil {
		t.Error("a wiped login opens it")
	}
	if _, err := ours.Look(t.Context(), Factory()); err != nil {
		t.Errorf("the factory's is gone: %v", err)
	}
}

// Older firmware gives and knows less.
func TestOlderFirmware(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{Firmware: [3]byte{2, 0, 0}})
	s := secretsOf(t, example)
	if err := ours.Make(t.Context(), s, noon); err != nil {
		t.Fatal(err)
	}
	isWhole(t, "firmware 2.0", d, ours, s)
	for _, have := range []yubihsm.Capabilities{known, yubihsm.AllCapabilities, everything} {
		if !covers(have, everything) || covers(known>>1, everything) || covers(have, known>>1) {
			t.Errorf("%x", have)
		}
	}
}

// What somebody on the way says of an object ends the session, and is not believed.
func TestSaidOutsideOfASession(t *testing.T) {
	none := &yubihsm.DeviceError{Command: yubihsm.CommandGetObjectInfo, Code: yubihsm.ObjectNotFound}
	if !isNone(none) || isNone(&yubihsm.SessionError{Cause: none}) || isNone(nil) {
		t.Error("it is taken for the device's")
	}
}

// A device that is gone while it is set up is waited for, and not for ever.
func TestGone(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	ours.Restart = time.Nanosecond
	s := secretsOf(t, example)
	d.Next(yubihsmtest.PutWrapKey, yubihsmtest.UnpluggedWithin())
	if err := ours.Make(t.Context(), s, noon); err == nil {
		t.Error("it has not waited, and succeeds")
	}
	d.Plug()
	ours.Restart = time.Minute
	d.Next(yubihsmtest.PutOpaque, yubihsmtest.UnpluggedWithin())
	done := make(chan error)
	go func() { done <- ours.Make(t.Context(), s, noon) }()
	away(t, d)
	d.Plug()
	if err := <-done; err != nil {
		t.Error(err)
	}
	isWhole(t, "after it was gone", d, ours, s)
}

// away returns when a device is unplugged.
func away(t *testing.T, d *yubihsmtest.Device) {
	t.Helper()
	connector, err := yubihsm.NewConnector(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer connector.Close()
	for there := true; there; time.Sleep(time.Millisecond) {
		status, err := connector.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		there = status.Device
	}
}
