package reach_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/ops/yubihsm/reach"
	"privyseal/internal/ops/yubihsm/reachtest"
	hsm "privyseal/yubihsm"
)

// A session lasts as long as the visit, and what the authentication key lacks is named.
func TestOwn(t *testing.T) {
	w := reachtest.New(t, 1)
	l := reach.Login{ID: 2, File: w.Path("two")}
	own := func(needs hsm.Capabilities) (o hsm.ObjectInfo, err error) {
		err = l.Visit(t.Context(), w.Devices[0], func(ctx context.Context, s *hsm.Session) (err error) {
			if n := w.Dev[0].Sessions(); n != 1 {
				t.Errorf("%d sessions", n)
			}
			o, err = l.Own(ctx, s, w.Devices[0], needs)
			return err
		})
		return o, err
	}
	if o, err := own(hsm.GenerateAsymmetricKey); err != nil || o.ID != 2 || !o.Delegated.Has(hsm.SignEdDSA) {
		t.Errorf("%+v, %v", o, err)
	}
	want := "authentication key 0x0002 of the YubiHSM at " + w.Devices[0] + " may not do this: it lacks the capability export-wrapped\nname one that may with --auth-key and --password-file"
	if _, err := own(hsm.GenerateAsymmetricKey | hsm.ExportWrapped); err == nil || err.Error() != want {
		t.Error(err)
	}
	if n := w.Dev[0].Sessions(); n != 0 {
		t.Errorf("%d sessions stay open", n)
	}
}

// What a device says of a key that is not there, or no chain's, names key and device.
func TestPublicKey(t *testing.T) {
	w := reachtest.New(t, 1)
	w.Provision(8, yubihsmtest.P256, 1)
	l := reach.Login{ID: 2, File: w.Path("two")}
	err := l.Visit(t.Context(), w.Devices[0], func(ctx context.Context, s *hsm.Session) error {
		if _, err := reach.PublicKey(ctx, s, w.Devices[0], 8); err == nil || !strings.HasPrefix(err.Error(), "the key 0x0008 of the YubiHSM at "+w.Devices[0]+": it is a key of ") {
			t.Error(err)
		}
		_, err := reach.PublicKey(ctx, s, w.Devices[0], 9)
		return err
	})
	if !reach.Refused(err, hsm.ObjectNotFound) || reach.Refused(err, hsm.SessionsFull) {
		t.Error(err)
	}
}

// Where an authentication key of a set-up is missing, the set-up is named; another one is not
// made by it.
func TestNoSuchKey(t *testing.T) {
	w := reachtest.New(t, 1)
	for id, want := range map[uint16]string{
		3: "has no authentication key 0x0003\nif it is a new device, set it up: `privyseal yubihsm setup --device " + w.Devices[0] + "`",
		5: "has no authentication key 0x0005",
	} {
		err := reach.Login{ID: id, File: w.Path("two")}.Visit(t.Context(), w.Devices[0], func(context.Context, *hsm.Session) error { return nil })
		if err == nil || err.Error() != "the YubiHSM at "+w.Devices[0]+" "+want {
			t.Error(err)
		}
	}
}

// The password can be one of systemd's credentials, which its group may read, and nowhere else
// a file that others may read.
func TestPasswordOfACredential(t *testing.T) {
	w := reachtest.New(t, 1)
	l := reach.Login{ID: 4, File: w.File("credential", "four\n")}
	if err := os.Chmod(l.File, 0o440); err != nil {
		t.Fatal(err)
	}
	const want = "has mode 0440, so that others may have read it"
	if _, err := l.Password(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", w.Dir)
	if password, err := l.Password(); err != nil || string(password) != "four" {
		t.Errorf("%q, %v", password, err)
	}
	if err := l.Visit(t.Context(), w.Devices[0], func(context.Context, *hsm.Session) error { return nil }); err != nil {
		t.Error(err)
	}
}
