package yubihsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"privyseal/internal/key/yubihsm/auditlog"
	"privyseal/internal/key/yubihsm/yubihsmtest"
	hsm "privyseal/yubihsm"
)

// noisy are commands that an operator may have logged, too.
var noisy = []byte{yubihsmtest.Echo, yubihsmtest.CreateSession, yubihsmtest.AuthenticateSession, yubihsmtest.GetLogEntries, yubihsmtest.SetLogIndex, yubihsmtest.GetPublicKey}

// audited returns n devices with one key, which log signatures and refuse them while the log
// is full. Ours drain it.
func audited(t testing.TB, n int, with times, options yubihsmtest.Options) *world {
	w := worldOf(t, n, with, yubihsmtest.Ed25519, options)
	w.ours.Close()
	for _, d := range w.dev {
		d.ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanSignECDSA|yubihsmtest.CanGetLog)
		d.Audit(true, noisy...)
	}
	w.folder = filepath.Join(t.TempDir(), "audit")
	w.reopen(with)
	return w
}

// reopen is a signer that starts.
func (w *world) reopen(with times) {
	w.t.Helper()
	w.config.Key, w.config.Audit = hsm.DeriveKey([]byte("four")), w.folder
	var err error
	if w.ours, err = open(w.config, with); err != nil {
		w.t.Fatal(err)
	}
	ours := w.ours
	w.t.Cleanup(func() { ours.Close() })
	if w.key, err = w.ours.Key(w.t.Context(), keyID, w.public); err != nil {
		w.t.Fatal(err)
	}
}

// signMany has chains sign at the same time, each so many votes.
func (w *world) signMany(chains, votes int) {
	w.t.Helper()
	var all sync.WaitGroup
	for c := range chains {
		all.Go(func() {
			for v := range votes {
				w.signs(fmt.Sprintf("of chain %d: %d", c, v))
			}
		})
	}
	all.Wait()
}

// report closes the devices, and checks the files of one.
func (w *world) report(serial uint32) *auditlog.Report {
	w.t.Helper()
	w.ours.Close()
	r, err := auditlog.Check(w.folder, serial)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Eight chains and a log of 62 entries: no signature fails, and each is found to be ours.
func TestLogIsDrained(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	before := w.dev[0].Count(yubihsmtest.SignEdDSA)
	w.signMany(8, 40)
	r := w.report(yubihsmtest.DefaultSerial)
	if len(r.Findings) > 0 || r.Matched != 320 || r.Signatures != 320 || r.Running {
		t.Errorf("%+v", r)
	}
	// What the device had to refuse was asked for again.
	t.Logf("%d signatures were asked for", w.dev[0].Count(yubihsmtest.SignEdDSA)-before)
	if status := w.ours.Status()[0].Log; status.Problem != nil || status.Foreign != 0 || status.Drained.IsZero() {
		t.Errorf("%+v", status)
	}
	if left := len(w.dev[0].Log()); left > 3 {
		t.Errorf("%d entries are left", left)
	}
}

// A key that we have opened is ours before we sign with it.
func TestForeignSignatureOfAnIdleKey(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.dev[0].Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 2, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, w.secret)
	idle, err := w.ours.Key(t.Context(), 2, w.public)
	if err != nil {
		t.Fatal(err)
	}
	w.signs("first")
	w.ours.list[0].audit.(*clerk).ask(t.Context(), true)
	w.elsewhere(authID, "four", func(s *hsm.Session) error {
		_, err := s.SignEdDSA(t.Context(), 2, vote("of theirs"))
		return err
	})
	w.ours.list[0].audit.(*clerk).ask(t.Context(), true)
	if n, other := idle.Status()[0].Log.Foreign, w.key.Status()[0].Log.Foreign; n != 1 || other != 0 {
		t.Errorf("%d foreign signatures, and %d of the other key", n, other)
	}
}

// What was signed with a key is ours also when it was closed, with the devices, before they
// were drained.
func TestDrainedAfterTheLastKey(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.signs("only")
	if err := w.key.Close(); err != nil {
		t.Fatal(err)
	}
	if r := w.report(yubihsmtest.DefaultSerial); len(r.Findings) > 0 || r.Matched != 1 || r.Running {
		t.Errorf("%+v", r)
	}
}

// A device that does not log signatures is said once, however often its log is read.
func TestDeviceThatDoesNotLogSignatures(t *testing.T) {
	w := worldOf(t, 1, patient, yubihsmtest.Ed25519, yubihsmtest.Options{})
	w.ours.Close()
	w.dev[0].ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanGetLog)
	w.folder = filepath.Join(t.TempDir(), "audit")
	w.reopen(patient)
	for i := range 5 {
		w.signs(fmt.Sprint(i))
		w.ours.list[0].audit.(*clerk).ask(t.Context(), true)
	}
	if n := strings.Count(w.log.String(), "lacks signatures"); n != 1 {
		t.Errorf("said %d times: %v", n, w.log)
	}
	if r := w.report(yubihsmtest.DefaultSerial); r.Bad() < 2 || r.Findings[0].Kind != auditlog.Missing {
		t.Errorf("%+v", r)
	}
}

// A signature of somebody else is found, with our password or another one, over as many
// bytes as ours or not.
func TestForeignSignatures(t *testing.T) {
	for _, c := range []struct {
		name, message string
		auth          uint16
	}{
		{"our password, and as many bytes", string(vote("of theirs")), authID},
		{"our password", "a vote of theirs", authID},
		{"another password", string(vote("1")), 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := audited(t, 1, patient, yubihsmtest.Options{})
			w.dev[0].ProvisionAuth(t, 9, "four", yubihsmtest.CanSignEdDSA)
			w.signs("1")
			w.ours.list[0].audit.(*clerk).ask(t.Context(), true)
			w.steals(c.auth, c.message)
			w.signs("2")
			r := w.report(yubihsmtest.DefaultSerial)
			if len(r.Findings) != 1 || r.Findings[0].Kind != auditlog.Foreign || r.Findings[0].Count != 1 {
				t.Errorf("%+v", r.Findings)
			}
			if status := w.ours.Status()[0].Log; status.Foreign != 1 || !strings.Contains(w.log.String(), "no signer of ours asked for 1 signature") {
				t.Errorf("%+v, %v", status, w.log)
			}
		})
	}
}

// steals has somebody else sign.
func (w *world) steals(auth uint16, message string) {
	w.t.Helper()
	w.elsewhere(auth, "four", func(s *hsm.Session) error {
		_, err := s.SignEdDSA(w.t.Context(), keyID, []byte(message))
		return err
	})
}

// elsewhere has somebody else use the first device.
func (w *world) elsewhere(auth uint16, password string, f func(*hsm.Session) error) {
	w.t.Helper()
	transport, err := hsm.Open(w.dev[0].URL())
	if err != nil {
		w.t.Fatal(err)
	}
	defer transport.Close()
	s, err := hsm.Authenticate(w.t.Context(), transport, auth, hsm.DeriveKey([]byte(password)))
	if err == nil {
		defer s.Close(w.t.Context())
		err = f(s)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// Whatever becomes of a request, the device's signatures are ours.
func TestLostAnswersAreOurs(t *testing.T) {
	for name, fault := range map[string]yubihsmtest.Fault{
		"the command is lost": yubihsmtest.Drop(), "the answer is lost": yubihsmtest.DropAnswer(), "half of it is": yubihsmtest.CutAnswer(20),
		"a wrong MAC": yubihsmtest.BadMAC(), "an error of HTTP": yubihsmtest.Status(500), "a wrong signature": yubihsmtest.WrongSignature(),
		"a refusal": yubihsmtest.Fails(yubihsmtest.StorageFailed), "a session that is gone": yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession),
	} {
		t.Run(name, func(t *testing.T) {
			w := audited(t, 2, patient, yubihsmtest.Options{})
			for i := range 5 {
				w.dev[0].Next(yubihsmtest.SignEdDSA, fault)
				w.signs(fmt.Sprint(i))
				w.ours.list[0].audit.(*clerk).ask(t.Context(), true)
				if i == 2 {
					w.ours.Close()
					w.reopen(patient)
				}
			}
			r := w.report(yubihsmtest.DefaultSerial)
			if len(r.Findings) > 0 {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// Two devices, of which one fails: each has its own files, and nothing is named.
func TestFailoverIsOurs(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	second := yubihsmtest.New(t, yubihsmtest.Options{Serial: 777})
	second.ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanGetLog)
	second.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: keyID, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, w.secret)
	second.Audit(true)
	w.ours.Close()
	w.config.Addresses = append(w.config.Addresses, second.URL())
	w.reopen(patient)
	w.signMany(2, 10)
	w.dev[0].Next(yubihsmtest.SignEdDSA, yubihsmtest.DropAnswer(), yubihsmtest.UnpluggedWithin())
	w.signMany(2, 40)
	w.dev[0].Plug()
	other := w.report(777)
	w.reopen(patient) // the first one could not be drained at the end
	w.signMany(1, 1)
	first := w.report(yubihsmtest.DefaultSerial)
	if len(first.Findings)+len(other.Findings) > 0 || other.Matched < 70 || first.Matched < 21 || first.Matched+other.Matched < 101 {
		t.Errorf("%+v, %+v", first, other)
	}
}

// Without the capability to drain the log there is an alarm, then the log is full, and then
// somebody drains it, and signing goes on.
func TestLogCannotBeDrained(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.ours.Close()
	w.dev[0].ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA)
	w.reopen(patient)
	w.signMany(1, drainUrgent)
	w.await("an alarm", func() bool { return w.ours.Status()[0].Log.Problem != nil })
	w.says("is not drained")
	if !strings.Contains(w.log.String(), "get-log-entries") || strings.Contains(w.log.String(), "failed") {
		t.Errorf("the alarm: %v", w.log)
	}
	var err error
	for n := 0; err == nil && n < 100; n++ {
		_, err = w.key.Sign(nil, vote("more"), nil)
	}
	var refused *hsm.DeviceError
	if !errors.As(err, &refused) || refused.Code != hsm.LogFull || !strings.Contains(err.Error(), "insufficient permissions") {
		t.Errorf("a full log: %v", err)
	}
	if s := w.ours.Status()[0]; s.Log.Used < s.Log.Size*3/4 {
		t.Errorf("%+v", s.Log)
	}
	w.drainElsewhere()
	w.signs("after it was drained elsewhere")
}

// drainElsewhere is what an operator does with yubihsm-shell.
func (w *world) drainElsewhere() {
	w.t.Helper()
	w.elsewhere(1, "password", func(s *hsm.Session) error {
		log, err := s.LogEntries(w.t.Context())
		if err == nil {
			err = s.SetLogIndex(w.t.Context(), log.Entries[len(log.Entries)-1].Number)
		}
		return err
	})
}

// A disk that does not take the log is an alarm, and stops nothing while the log has room.
// Once it takes it, a vote that finds the log full is signed by the same call.
func TestDiskIsAway(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	if err := os.WriteFile(w.folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.signMany(1, drainUrgent)
	w.await("an alarm", func() bool { return w.ours.Status()[0].Log.Problem != nil })
	var err error
	for n := 0; err == nil && n < 100; n++ {
		_, err = w.key.Sign(nil, vote("more"), nil)
	}
	if err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("a full log: %v", err)
	}
	if err := os.Remove(w.folder); err != nil {
		t.Fatal(err)
	}
	w.signs("when the disk is back")
	w.says("the log of a YubiHSM is drained")
	r := w.report(yubihsmtest.DefaultSerial)
	for _, f := range r.Findings {
		if f.Kind == auditlog.Foreign || f.Kind == auditlog.Gap {
			t.Errorf("%+v", f)
		}
	}
}

// A process that stands by, and one that only looks, leave the log to the one that signs.
func TestStandbyLeavesTheLog(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.ours.Close()
	if _, err := os.Stat(w.folder); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if n := w.dev[0].Count(yubihsmtest.GetLogEntries); n > 0 {
		t.Errorf("read %d times", n)
	}
}

// A config that is reloaded opens the devices again before it closes them: what both sign is
// ours.
func TestReloadIsOurs(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	old := *w
	old.signs("before")
	w.reopen(patient)
	var both sync.WaitGroup
	both.Go(func() { old.signMany(2, 40) })
	both.Go(func() { w.signMany(2, 40) })
	both.Wait()
	old.ours.Close()
	w.signs("after")
	if r := w.report(yubihsmtest.DefaultSerial); len(r.Findings) > 0 || r.Signatures != 162 {
		t.Errorf("%+v", r)
	}
}

// Another device at the same address has files of its own.
func TestSwappedDevice(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.signMany(1, 3)
	other := yubihsmtest.New(t, yubihsmtest.Options{Serial: 777})
	other.ProvisionAuth(t, authID, "four", yubihsmtest.CanSignEdDSA|yubihsmtest.CanGetLog)
	other.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: keyID, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, w.secret)
	other.Audit(true)
	other.TakePlace(t, w.dev[0])
	w.signMany(1, 5)
	if r := w.report(777); len(r.Findings) > 0 || r.Matched != 5 {
		t.Errorf("%+v", r)
	}
}

// The first signature waits for the disk once, and no later one does.
func TestSigningDoesNotWaitForFiles(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.signs("first")
	b := w.ours.list[0].audit.(*clerk).book
	b.files.Lock() // as long as a disk may hang
	w.signMany(2, 20)
	b.files.Unlock()
	if r := w.report(yubihsmtest.DefaultSerial); len(r.Findings) > 0 || r.Matched != 41 {
		t.Errorf("%+v", r)
	}
}

// A disk that hangs while the log is drained does not keep the devices from being closed.
func TestCloseDoesNotWaitForFiles(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.signs("first")
	c := w.ours.list[0].audit.(*clerk)
	b := c.book
	b.files.Lock() // as long as a disk may hang
	defer b.files.Unlock()
	c.jobs <- job{drain: true, done: make(chan error, 1)} // it waits for the files now
	closed := make(chan struct{})
	go func() {
		w.ours.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("it waits for the disk")
	}
}

// What was not made durable stays on the device.
func TestNothingIsForgottenUnsaved(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.signs("first")
	clerk := w.ours.list[0].audit.(*clerk)
	clerk.book.writer.Close() // what it writes fails from now on
	before := len(w.dev[0].Log())
	if err := clerk.ask(t.Context(), true); err == nil {
		t.Error("drained")
	}
	if n := len(w.dev[0].Log()); n < before {
		t.Errorf("%d entries, and there were %d", n, before)
	}
	w.signs("second")
	if err := clerk.ask(t.Context(), true); err != nil {
		t.Error(err)
	}
	if r := w.report(yubihsmtest.DefaultSerial); r.Bad() > 0 || r.Signatures != 2 {
		t.Errorf("%+v", r)
	}
}

// A device whose log is full opens a session all the same, and has it drained, if it refuses
// to say who it is.
func TestSessionWhileTheLogIsFull(t *testing.T) {
	w := audited(t, 1, patient, yubihsmtest.Options{})
	w.dev[0].Audit(true, yubihsmtest.GetDeviceInfo)
	w.signs("first")
	b := w.ours.list[0].audit.(*clerk).book
	b.files.Lock()
	w.elsewhere(authID, "four", func(s *hsm.Session) error {
		for {
			if _, err := s.SignEdDSA(t.Context(), keyID, vote("fills the log")); isLogFull(err) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
	b.files.Unlock()
	w.halfMinute()
	w.signs("when the session has ended, and the log is full")
}

// A signature under way when the log is read counts once, as one that may be in it.
func TestBook(t *testing.T) {
	b := takeBook(bookName{t.TempDir(), 1})
	a := auditlog.Ask{AuthKey: authID, Key: keyID, Command: hsm.CommandSignEdDSA, Length: 122}
	counts := func(when, want string) {
		t.Helper()
		list := b.count()
		got := ""
		for _, n := range list {
			got += fmt.Sprintf("%d answered, %d lost", n.Answered, n.Lost)
		}
		if got != want {
			t.Errorf("%s: %s", when, got)
		}
		b.durable(list)
	}
	under, done := b.ask(a), b.ask(a)
	b.answered(done, nil)
	counts("one is under way", "1 answered, 1 lost")
	counts("once more", "")
	b.answered(under, nil)
	counts("it was answered", "")
	for _, err := range []error{nil, &hsm.SessionError{Cause: &hsm.DeviceError{Code: hsm.InvalidSession}}, errors.New("other"), &hsm.DeviceError{Code: hsm.LogFull},
		&hsm.SessionError{Cause: &hsm.ConnectorError{Unsent: true}}, &hsm.TooLongError{}} {
		b.answered(b.ask(a), err)
	}
	counts("each outcome", "1 answered, 2 lost")
	if err := b.giveBack(); err != nil {
		t.Error(err)
	}
}
