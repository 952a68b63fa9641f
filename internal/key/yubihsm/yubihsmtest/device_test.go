package yubihsmtest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSessionsAreSixteenAndEndWhenIdle(t *testing.T) {
	d := New(t, Options{})
	var open []*host
	for range MaxSessions {
		open = append(open, admin(t, d))
	}
	if _, err := login(d, 1, "password"); err != SessionsFull {
		t.Errorf("the 17th session: %v", err)
	}
	d.Advance(IdleTime - time.Second)
	if _, err := open[3].send(Echo); err != nil {
		t.Error(err)
	}
	d.Advance(time.Second)
	if n := d.Sessions(); n != 1 {
		t.Errorf("%d sessions are left, not the one that was used", n)
	}
	if _, err := open[4].send(Echo); !errors.Is(err, InvalidSession) {
		t.Errorf("a session that was idle for too long: %v", err)
	}
	if _, err := open[3].send(CloseSession); err != nil || d.Sessions() != 0 {
		t.Errorf("a session that was closed: %v, and %d are open", err, d.Sessions())
	}
	if _, err := login(d, 1, "wrong"); err != errMAC {
		t.Errorf("a wrong password: %v", err)
	}
	if n := d.Sessions(); n != 1 {
		t.Errorf("%d sessions wait for their second message, not 1", n)
	}
}

// faults says what a host sees of each fault of a signature, and of the signature after
// it in the same session.
var faults = []struct {
	name        string
	fault       func(*Device) Fault
	want, after string
	signed      int // how many of the two the device has done
}{
	{"none", func(*Device) Fault { return nil }, "ok", "ok", 2},
	{"drop", func(*Device) Fault { return Drop() }, "the connection ends", "outside of the session: the device's error 04", 0},
	{"drop answer", func(*Device) Fault { return DropAnswer() }, "the connection ends", "ok", 2},
	{"cut answer", func(*Device) Fault { return CutAnswer(9) }, "the connection ends", "ok", 2},
	{"truncate", func(*Device) Fault { return Truncate(9) }, "outside of the session: the frame is wrong", "ok", 2},
	{"nothing", func(*Device) Fault { return Answer(nil) }, "outside of the session: the frame is wrong", "ok", 2},
	{"bad MAC", func(*Device) Fault { return BadMAC() }, "the MAC is wrong", "ok", 2},
	{"wrong signature", func(*Device) Fault { return WrongSignature() }, "wrong signature", "ok", 2},
	{"short signature", func(*Device) Fault { return Spoil(func(b []byte) []byte { return b[:63] }) }, "wrong signature", "ok", 2},
	{"log full", func(*Device) Fault { return Fails(LogFull) }, "the device's error 0a", "ok", 1},
	{"session lost", func(*Device) Fault { return FailsPlainly(InvalidSession) }, "outside of the session: the device's error 03", "ok", 2},
	{"status", func(*Device) Fault { return Status(http.StatusBadGateway) }, "HTTP 502", "ok", 2},
	{"delay", func(*Device) Fault { return Delay(time.Millisecond) }, "ok", "ok", 2},
	{"unplugged", func(*Device) Fault { return UnpluggedWithin() }, "HTTP 500", "HTTP 500", 1},
}

func TestFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			d := New(t, Options{Firmware: [3]byte{2, 2, 0}})
			key := d.ProvisionEd25519(t, 5)
			h := admin(t, d)
			d.Next(SignEdDSA, f.fault(d))
			if got := outcome(h, key); got != f.want {
				t.Errorf("the host sees: %s; want: %s", got, f.want)
			}
			if got := outcome(h, key); got != f.after {
				t.Errorf("after it the host sees: %s; want: %s", got, f.after)
			}
			if n := signatures(d); n != f.signed {
				t.Errorf("the device has made %d signatures, not %d", n, f.signed)
			}
		})
	}
}

// outcome signs, and says what comes of it.
func outcome(h *host, key ed25519.PublicKey) string {
	signature, err := h.sign("a text that is no vote")
	switch {
	case err != nil:
		return err.Error()
	case !ed25519.Verify(key, []byte("a text that is no vote"), signature):
		return "wrong signature"
	}
	return "ok"
}

// signatures returns how many signatures the device's log has.
func signatures(d *Device) (n int) {
	for _, e := range d.Log() {
		if e.Command == SignEdDSA && e.Result == SignEdDSA|reply {
			n++
		}
	}
	return n
}

// TestEveryByteCounts: whichever byte of an answer is another one, the host notices.
func TestEveryByteCounts(t *testing.T) {
	d := New(t, Options{})
	answer, err := d.plain(Echo, []byte("length"))
	if err != nil || string(answer) != "length" {
		t.Fatal(err)
	}
	d.ProvisionEd25519(t, 5)
	const size = 3 + 1 + 80 + 8 // of a signature's answer
	for i := range size {
		h := admin(t, d)
		d.Next(SignEdDSA, Flip(i))
		if _, err := h.sign("x"); err == nil {
			t.Errorf("byte %d is another one, and the host does not notice", i)
		}
		h.send(CloseSession)
	}
	if n := d.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestBadMACOfTheHost: what the device does with a session of which a message is forged.
func TestBadMACOfTheHost(t *testing.T) {
	for keeps, want := range map[bool]int{false: 0, true: 1} {
		d := New(t, Options{KeepsSessions: keeps})
		h := admin(t, d)
		h.s.mac = random(16)
		if _, err := h.send(Echo); !errors.Is(err, AuthenticationFailed) {
			t.Errorf("a forged message: %v", err)
		}
		if n := d.Sessions(); n != want {
			t.Errorf("%d sessions after it, not %d", n, want)
		}
	}
}

func TestFullLogStopsTheDevice(t *testing.T) {
	d := New(t, Options{Firmware: [3]byte{2, 2, 0}})
	d.ProvisionEd25519(t, 5)
	h := admin(t, d)
	if _, err := h.send(SetOption, []byte{forceAudit, 0, 1, auditOn}); err != nil {
		t.Fatal(err)
	}
	n := 0
	var err error
	for ; err == nil && n <= LogSize; n++ {
		_, err = h.sign("x")
	}
	if err != LogFull || len(d.Log()) != LogSize {
		t.Fatalf("signature %d: %v, with %d entries", n, err, len(d.Log()))
	}
	admin(t, d) // a session is opened all the same, and counted
	data, err := h.send(GetLogEntries)
	if err != nil || len(data) != 5+32*LogSize || data[3] != 1 {
		t.Fatalf("%d bytes of log, %v; % x", len(data), err, data[:5])
	}
	last := d.Log()[LogSize-1].Number
	if _, err := h.send(SetLogIndex, binary.BigEndian.AppendUint16(nil, last)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.sign("x"); err != nil {
		t.Errorf("the log is empty: %v", err)
	}
	if log := d.Log(); len(log) != 2 || log[0].Command != SetLogIndex || log[1].Number != last+2 {
		t.Errorf("the log is %v", log)
	}
}

func TestPower(t *testing.T) {
	d := New(t, Options{SignTime: time.Hour})
	d.ProvisionEd25519(t, 5)
	h := admin(t, d)
	done := make(chan error, 1)
	go func() {
		_, err := h.sign("x")
		done <- err
	}()
	for d.Count(SignEdDSA) == 0 {
		time.Sleep(time.Millisecond)
	}
	d.Unplug()
	if err := <-done; err == nil || err.Error() != "HTTP 500" {
		t.Errorf("unplugged while it signs: %v", err)
	}
	if got := status(t, d); !strings.HasPrefix(got, "status=NO_DEVICE\n") {
		t.Errorf("without a device the status is %q", got)
	}
	d.Plug()
	if got := status(t, d); !strings.HasPrefix(got, "status=OK\nserial=*\nversion=3.0.5\npid=") {
		t.Errorf("with a device again the status is %q", got)
	}
	if _, err := h.send(Echo); !errors.Is(err, InvalidSession) {
		t.Errorf("a session of before: %v", err)
	}
	if log := d.Log(); log[len(log)-1].Command != 0 {
		t.Errorf("the log does not end with the start: %v", log)
	}
}

func status(t *testing.T, d *Device) string {
	t.Helper()
	resp, err := http.Get(d.URL() + "/connector/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConnector(t *testing.T) {
	d := New(t, Options{})
	h := admin(t, d)
	for _, c := range []struct {
		size int
		want string
	}{{2, "HTTP 400"}, {3, "the device's error 08"}, {3136, "the device's error 08"}, {3139, "the device's error 08"}, {3140, "HTTP 400"}} {
		message := bytes.Repeat([]byte{0xff}, c.size)
		answer, err := d.post(message)
		if err == nil {
			_, err = content(0xff, answer)
		}
		if fmt.Sprint(err) != c.want {
			t.Errorf("a request of %d bytes: %v; want %s", c.size, err, c.want)
		}
	}
	d.StopConnector()
	if _, err := d.plain(Echo); err != errConnection {
		t.Errorf("the connector is stopped: %v", err)
	}
	d.StartConnector(t)
	if _, err := h.send(Echo); err != nil {
		t.Errorf("the connector was started again: %v", err)
	}
}

func TestHangs(t *testing.T) {
	d := New(t, Options{})
	d.Next(Echo, d.Hang())
	done := make(chan error, 2)
	ask := func() {
		_, err := d.plain(Echo)
		done <- err
	}
	go ask()
	for d.Count(Echo) == 0 {
		time.Sleep(time.Millisecond)
	}
	go ask()
	select {
	case err := <-done:
		t.Fatalf("nothing hangs: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	d.Heal()
	if a, b := <-done, <-done; errors.Join(a, b) == nil || a != nil && b != nil {
		t.Errorf("what hung got %v, what waited %v", a, b)
	}
}

func TestTimeAndTricks(t *testing.T) {
	d := New(t, Options{SignTime: 20 * time.Millisecond})
	key := d.ProvisionEd25519(t, 5)
	h := admin(t, d)
	began := time.Now()
	if got := outcome(h, key); got != "ok" || time.Since(began) < 20*time.Millisecond {
		t.Errorf("a signature of 20 ms: %s, after %v", got, time.Since(began))
	}
	d.Swap(t, 5)
	if got := outcome(h, key); got != "wrong signature" {
		t.Errorf("of another key behind our back: %s", got)
	}
	d.Remove(AsymmetricKey, 5)
	if got := outcome(h, key); got != ObjectNotFound.Error() {
		t.Errorf("of a key that is gone: %s", got)
	}
	d.Reset()
	if objects := d.Objects(); len(objects) != 1 || objects[0].Label != "DEFAULT AUTHKEY CHANGE THIS ASAP" {
		t.Errorf("after a reset there is %v", objects)
	}
}

// TestBuffers: the longest message that a device signs.
func TestBuffers(t *testing.T) {
	for _, c := range []struct {
		firmware [3]byte
		longest  int
		refusal  string // the connector, too, has a limit
	}{
		{[3]byte{2, 2, 0}, 2026, "outside of the session: the device's error 08"},
		{[3]byte{2, 4, 0}, 3114, "HTTP 400"},
	} {
		d := New(t, Options{Firmware: c.firmware})
		d.ProvisionEd25519(t, 5)
		h := admin(t, d)
		if _, err := h.sign(strings.Repeat("x", c.longest)); err != nil {
			t.Errorf("firmware %v, %d bytes: %v", c.firmware, c.longest, err)
		}
		if _, err := h.sign(strings.Repeat("x", c.longest+1)); err == nil || err.Error() != c.refusal {
			t.Errorf("firmware %v, %d bytes: %v; want %s", c.firmware, c.longest+1, err, c.refusal)
		}
	}
}

// TestSealedDataIsWhole: no bit of a backup can be another one.
func TestSealedDataIsWhole(t *testing.T) {
	d := New(t, Options{})
	d.Provision(t, Object{Type: WrapKey, ID: 1, Algorithm: AES256CCM, Capabilities: CanWrapData | CanUnwrapData}, random(32))
	h := admin(t, d)
	sealed, err := h.send(WrapData, []byte{0, 1}, []byte("a secret"))
	if err != nil || len(sealed) != nonceSize+len("a secret")+tagSize {
		t.Fatalf("%d bytes: %v", len(sealed), err)
	}
	if opened, err := h.send(UnwrapData, []byte{0, 1}, sealed); string(opened) != "a secret" {
		t.Errorf("it opens as %q: %v", opened, err)
	}
	for i := range sealed {
		if _, err := h.send(UnwrapData, []byte{0, 1}, flip(bytes.Clone(sealed), i)); err != InvalidData {
			t.Errorf("with another byte %d: %v", i, err)
		}
	}
}
