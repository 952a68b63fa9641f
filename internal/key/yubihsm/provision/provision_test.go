package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/words"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/yubihsm"
)

const (
	example = "double section release consider diet pilot flip shell mother alone what fantasy much answer lottery crew nut reopen stereo square popular addict just animal"
	other   = "abandon amount liar amount expire adjust cage candy arch gather drum bullet absurd math era live bid rhythm alien crouch range attend journey unaware"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// secretsOf returns what words make.
func secretsOf(t testing.TB, text string) *Secrets {
	t.Helper()
	w, err := words.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Derive(w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// at returns a device and ours to set it up.
func at(t testing.TB, options yubihsmtest.Options) (*yubihsmtest.Device, Device) {
	d := yubihsmtest.New(t, options)
	return d, Device{Address: d.URL()}
}

// table is what is on a device: type, id, capabilities, delegated ones, domains, label.
func table(d *yubihsmtest.Device) string {
	var b strings.Builder
	for _, o := range d.Objects() {
		fmt.Fprintf(&b, "%d %04x %016x %016x %04x %d %s\n", o.Type, o.ID, uint64(o.Capabilities), uint64(o.Delegated), o.Domains, o.Algorithm, o.Label)
	}
	return b.String()
}

func want(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/device.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(text), "\n\n")
	return rows
}

// isWhole fails the test if a device is not set up from the words.
func isWhole(t testing.TB, when string, d *yubihsmtest.Device, ours Device, s *Secrets) {
	t.Helper()
	if got := table(d); got != want(t) {
		t.Errorf("%s: the device has\n%s", when, got)
	}
	if _, err := ours.Look(context.Background(), Factory()); !locks(err, 1, false, false) {
		t.Errorf("%s: the factory's password: %v", when, err)
	}
	if err := ours.verify(context.Background(), s); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// locks reports whether an error says that nothing opens a device.
func locks(err error, id uint16, missing, interrupted bool) bool {
	locked, ok := errors.AsType[*LockedError](err)
	return ok && locked.ID == id && locked.Missing == missing && locked.Interrupted == interrupted
}

// A device of the factory has afterwards what tmkms makes of it, and once more changes nothing.
func TestMake(t *testing.T) {
	d, ours := at(t, yubihsmtest.Options{})
	s := secretsOf(t, example)
	if err := ours.Make(t.Context(), s, noon); err != nil {
		t.Fatal(err)
	}
	isWhole(t, "first", d, ours, s)
	d.ProvisionEd25519(t, 7)
	before := table(d)
	if err := ours.Make(t.Context(), s, noon.Add(time.Hour)); err != nil || table(d) != before {
		t.Errorf("%v\n%s", err, table(d))
	}
	if n := d.Sessions(); n > 4 { // those that a wrong password leaves
		t.Errorf("%d sessions are left", n)
	}
}

// The report is in the form of the crate that tmkms uses.
func TestReport(t *testing.T) {
	text, err := newReport(12345678, time.Date(2026, 11, 27, 5, 18, 39, 7, time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	id, _ := r["uuid"].(string)
	if len(id) != 36 || id[14] != '4' || !strings.ContainsAny(id[19:20], "89ab") {
		t.Errorf("the UUID %q", id)
	}
	text = bytes.Replace(text, []byte(id), []byte("U"), 1)
	if want := `{"version":1,"uuid":"U","device_serial_number":"0012345678","hostname":null,"username":null,"date":[2026,331,4,18,39,7,0,0,0],"software":"privyseal"}`; string(text) != want {
		t.Errorf("%s, want\n%s", text, want)
	}
	again, err := newReport(12345678, noon)
	if err != nil || bytes.Contains(again, []byte(id)) {
		t.Errorf("the same UUID twice: %s, %v", again, err)
	}
}

// What is lost on the way is done again: each command of a set-up, and each byte of its
// answer.
func TestFaults(t *testing.T) {
	t.Parallel()
	d, ours := at(t, yubihsmtest.Options{})
	s := secretsOf(t, example)
	faults := map[string]yubihsmtest.Fault{
		"the command is lost": yubihsmtest.Drop(), "the answer is lost": yubihsmtest.DropAnswer(), "a bad MAC": yubihsmtest.BadMAC(),
		"no session": yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession), "half of the answer": yubihsmtest.CutAnswer(5), "HTTP 500": yubihsmtest.Status(500),
	}
	n := commands(t, d, ours, s)
	for name, fault := range faults {
		for i := 0; i < n; i += stride {
			d.Reset()
			d.Next(yubihsmtest.Any, append(make([]yubihsmtest.Fault, i), fault)...)
			when := fmt.Sprintf("%s, command %d of %d", name, i+1, n)
			again(t, when, d, ours, s)
		}
	}
}

// again sets a device up where something is wrong once. What opens a session is not
// authenticated, so that it can look like a wrong password, or a refusal: then the same words
// finish it.
func again(t *testing.T, when string, d *yubihsmtest.Device, ours Device, s *Secrets) {
	t.Helper()
	err := ours.Make(t.Context(), s, noon)
	d.Heal()
	if err != nil {
		refused, isRefused := errors.AsType[*yubihsm.DeviceError](err)
		_, locked := errors.AsType[*LockedError](err)
		_, differs := errors.AsType[*DiffersError](err)
		if isRefused && refused.Command != yubihsm.CommandCreateSession || !isRefused && !locked && !differs && !errors.Is(err, yubihsm.ErrWrongKey) {
			t.Fatalf("%s: %v", when, err)
		}
		if err := ours.Make(t.Context(), s, noon); err != nil {
			t.Fatalf("%s: again: %v", when, err)
		}
	}
	isWhole(t, when, d, ours, s)
}

// commands returns how many commands a set-up takes.
func commands(t testing.TB, d *yubihsmtest.Device, ours Device, s *Secrets) int {
	t.Helper()
	before := d.Count(yubihsmtest.Any)
	if err := ours.Make(t.Context(), s, noon); err != nil {
		t.Fatal(err)
	}
	n := d.Count(yubihsmtest.Any) - before
	d.Reset()
	return n
}

// Each byte of an answer that is another one is noticed, or does not matter: nothing is left
// undone.
func TestEachByte(t *testing.T) {
	t.Parallel()
	d, ours := at(t, yubihsmtest.Options{})
	s := secretsOf(t, example)
	n := commands(t, d, ours, s)
	for i := 0; i < n; i += stride {
		for _, b := range []int{0, 3, 4, 11, -9} {
			d.Reset()
			d.Next(yubihsmtest.Any, append(make([]yubihsmtest.Fault, i), yubihsmtest.Flip(b))...)
			again(t, fmt.Sprintf("byte %d of answer %d", b, i+1), d, ours, s)
		}
	}
}

// A device that is unplugged at any command is finished by the same words, whether it has
// done the command or not, and never by others.
func TestUnplugged(t *testing.T) {
	t.Parallel()
	d, ours := at(t, yubihsmtest.Options{})
	s, wrong := secretsOf(t, example), secretsOf(t, other)
	n := commands(t, d, ours, s)
	for i := 0; i < n; i += stride {
		for name, fault := range map[string]yubihsmtest.Fault{"done": yubihsmtest.UnpluggedWithin(), "not done": yubihsmtest.Drop()} {
			d.Reset()
			d.Next(yubihsmtest.Any, append(make([]yubihsmtest.Fault, i), fault)...)
			when := fmt.Sprintf("command %d, %s", i+1, name)
			err := ours.once(t.Context(), s, noon)
			d.Plug()
			if err == nil { // a session that was not closed
				isWhole(t, when, d, ours, s)
				continue
			}
			before := table(d)
			empty := len(d.Objects()) == 1
			if err := ours.Make(t.Context(), wrong, noon); empty != (err == nil) && !empty || !empty && table(d) != before {
				t.Fatalf("%s: other words: %v\n%s", when, err, table(d))
			}
			if empty {
				d.Reset()
			}
			if err := ours.Make(t.Context(), s, noon); err != nil {
				t.Fatalf("%s: again: %v", when, err)
			}
			isWhole(t, when, d, ours, s)
		}
	}
}

// A second device from the same words takes the backups of the first: the operator moves a key,
// and the validator signs with it, but may not move it.
func TestBackups(t *testing.T) {
	s := secretsOf(t, example)
	var devices [2]Device
	for i := range devices {
		_, devices[i] = at(t, yubihsmtest.Options{Serial: uint32(i + 1)})
		if err := devices[i].Make(t.Context(), s, noon); err != nil {
			t.Fatal(err)
		}
	}
	as := func(device Device, role item, f func(context.Context, *yubihsm.Session) error) error {
		return device.visit(t.Context(), s.login(role), func(ctx context.Context, s *yubihsm.Session, _ yubihsm.DeviceInfo) error { return f(ctx, s) })
	}
	operator, validator := roles[0], roles[2]
	var blob []byte
	var signatures [2][]byte
	for i, device := range devices {
		if err := as(device, operator, func(ctx context.Context, s *yubihsm.Session) (err error) {
			if i == 1 {
				_, _, err = s.ImportWrapped(ctx, wrapKey, blob)
				return err
			}
			key := yubihsm.Object{ID: 7, Domains: yubihsm.Domain(1), Algorithm: yubihsm.Ed25519, Capabilities: yubihsm.SignEdDSA | yubihsm.ExportableUnderWrap}
			if _, err = s.GenerateAsymmetricKey(ctx, key); err == nil {
				blob, err = s.ExportWrapped(ctx, wrapKey, yubihsm.TypeAsymmetricKey, 7)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := as(device, validator, func(ctx context.Context, s *yubihsm.Session) (err error) {
			if _, err := s.ExportWrapped(ctx, wrapKey, yubihsm.TypeAsymmetricKey, 7); err == nil {
				t.Error("the validator exports its key")
			}
			signatures[i], err = s.SignEdDSA(ctx, 7, []byte("no vote"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(signatures[0], signatures[1]) {
		t.Error("the second device signs otherwise")
	}
}
