package yubihsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"privyseal/internal/key/yubihsm/yubihsmtest"
	"privyseal/internal/pubkey"
	hsm "privyseal/yubihsm"
)

func TestSign(t *testing.T) {
	w := newWorld(t, 1, patient)
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	for _, n := range []int{0, 1, 200, 3114} {
		message := bytes.Repeat([]byte{'x'}, n)
		if signature, err := w.key.Sign(nil, message, crypto.Hash(0)); err != nil || !bytes.Equal(signature, ed25519.Sign(private, message)) {
			t.Errorf("%d bytes: %x, %v", n, signature, err)
		}
	}
	if _, err := w.key.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("a digest is signed")
	}
	if !w.key.PublicKey().Equal(w.public) || !w.public.Equal(w.key.Public()) {
		t.Error("the public key is another one")
	}
	s := w.ours.Status()[0]
	if s.Signatures != 4 || s.LastTook <= 0 || s.Failed != nil || s.Info.Serial != yubihsmtest.DefaultSerial || s.Address != w.dev[0].URL() {
		t.Errorf("%+v", s)
	}
}

// TestTooLong: what does not fit is not tried elsewhere, and is no fault of the device. Newer
// firmware takes more.
func TestTooLong(t *testing.T) {
	for _, c := range []struct {
		firmware [3]byte
		most     int
	}{{[3]byte{2, 2, 0}, 2026}, {[3]byte{2, 4, 0}, 3114}} {
		w := worldOf(t, 2, patient, yubihsmtest.Ed25519, yubihsmtest.Options{Firmware: c.firmware})
		if _, err := w.key.Sign(nil, make([]byte, c.most), nil); err != nil {
			t.Errorf("%d bytes: %v", c.most, err)
		}
		_, err := w.key.Sign(nil, make([]byte, c.most+1), nil)
		var tooLong *hsm.TooLongError
		if !errors.As(err, &tooLong) || tooLong.Limit != c.most+2 || w.marks() != "ok ok" || strings.Count(err.Error(), "http") != 1 ||
			!strings.Contains(err.Error(), fmt.Sprintf("does not fit into the message buffer of the YubiHSM: %d bytes, and %d fit", c.most+3, c.most+2)) {
			t.Errorf("%v; %s", err, w.marks())
		}
		w.signs("afterwards")
	}
}

// TestSecp256k1: s is the lower one, whichever the device makes.
func TestSecp256k1(t *testing.T) {
	w := worldOf(t, 1, patient, yubihsmtest.K256, yubihsmtest.Options{})
	if w.public.Type() != pubkey.Secp256k1 {
		t.Fatal(w.public)
	}
	for i := range 20 {
		w.signs(fmt.Sprint(i))
	}
}

func TestLowS(t *testing.T) {
	half := new(big.Int).Rsh(order256k1, 1)
	der := func(r, s *big.Int) []byte {
		put := func(n *big.Int) []byte {
			b := append([]byte{0}, n.Bytes()...)
			if len(b) > 1 && b[1] < 0x80 {
				b = b[1:]
			}
			return append([]byte{2, byte(len(b))}, b...)
		}
		both := append(put(r), put(s)...)
		return append([]byte{0x30, byte(len(both))}, both...)
	}
	one, order, above := big.NewInt(1), order256k1, new(big.Int).Add(half, big.NewInt(1))
	for name, c := range map[string]struct {
		der  []byte
		want string // in the end of s, "" for an error
	}{
		"low":            {der(one, half), "0a0"},
		"just high":      {der(one, above), "0a0"},
		"highest":        {der(one, new(big.Int).Sub(order, one)), "001"},
		"s is the order": {der(one, order), ""}, "r is the order": {der(order, one), ""}, "zero": {der(one, new(big.Int)), ""},
		"more": {append(der(one, one), 0), ""}, "nothing": {nil, ""},
	} {
		got, err := lowS(c.der)
		if (err == nil) != (c.want != "") || err == nil && (len(got) != 64 || !strings.HasSuffix(fmt.Sprintf("%x", got), c.want)) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// TestRepair breaks the session in all ways in which it can; the call that notices repairs it.
func TestRepair(t *testing.T) {
	sign := byte(yubihsmtest.SignEdDSA)
	for name, harm := range map[string]func(*yubihsmtest.Device){
		"idle":             func(d *yubihsmtest.Device) { d.Advance(yubihsmtest.IdleTime + time.Second) },
		"restarted":        func(d *yubihsmtest.Device) { d.Unplug(); d.Plug() },
		"connector again":  func(d *yubihsmtest.Device) { d.StopConnector(); d.StartConnector(t) },
		"session gone":     func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession)) },
		"bad MAC":          func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.BadMAC()) },
		"lost":             func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.Drop()) },
		"answer lost":      func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.DropAnswer()) },
		"half an answer":   func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.CutAnswer(20)) },
		"a shorter answer": func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.Truncate(20)) },
		"status 500":       func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.Status(500)) },
		"within a handshake": func(d *yubihsmtest.Device) {
			d.Unplug()
			d.Plug()
			d.Next(byte(hsm.CommandAuthenticateSession), yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession))
		},
		"twice": func(d *yubihsmtest.Device) { d.Next(sign, yubihsmtest.BadMAC(), yubihsmtest.DropAnswer()) },
		"and says nothing outside of one": func(d *yubihsmtest.Device) {
			d.Next(sign, yubihsmtest.BadMAC())
			d.Next(yubihsmtest.GetDeviceInfo, yubihsmtest.FailsPlainly(yubihsmtest.LogFull))
		},
		"and the handshake": func(d *yubihsmtest.Device) {
			d.Next(sign, yubihsmtest.BadMAC())
			d.Next(byte(hsm.CommandCreateSession), yubihsmtest.Drop())
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, patient)
			w.signs("before")
			harm(w.dev[0])
			w.signs("within")
			w.signs("afterwards")
			if w.marks() != "ok" {
				t.Error(w.marks())
			}
			if n := w.dev[0].Count(byte(hsm.CommandCloseSession)); n != 0 {
				t.Errorf("%d sessions were closed", n)
			}
		})
	}
}

// TestRepairAtEachByte changes one byte after the other of an answer.
func TestRepairAtEachByte(t *testing.T) {
	w := newWorld(t, 1, patient)
	for i := range 100 { // header, session, 67 bytes in five blocks, MAC: 92
		w.dev[0].Next(yubihsmtest.SignEdDSA, yubihsmtest.Flip(i%92))
		w.signs(fmt.Sprint("byte ", i))
		if n := w.dev[0].Sessions(); n > maxAbandoned+1 {
			t.Errorf("%d sessions are open", n)
		}
		if i%4 == 3 {
			w.halfMinute()
		}
	}
}

// TestSessionsDoNotPileUp: a device that breaks each session keeps some for others.
func TestSessionsDoNotPileUp(t *testing.T) {
	w := newWorld(t, 1, patient)
	w.dev[0].Always(yubihsmtest.SignEdDSA, yubihsmtest.DropAnswer())
	for range 30 {
		w.fails("no answer")
	}
	if err := w.fails("none is opened"); !strings.Contains(err.Error(), "no session is opened for now, because 8 broke within 31s: no answer from the YubiHSM connector") {
		t.Error(err)
	}
	if n := w.dev[0].Sessions(); n > maxAbandoned {
		t.Errorf("%d sessions are open", n)
	}
	w.dev[0].Heal()
	w.halfMinute()
	w.signs("half a minute later")
}

// TestBackAtOnce: a device that was away is used when it is back, however often it was looked
// for meanwhile. Nothing of that has left a session there.
func TestBackAtOnce(t *testing.T) {
	for name, away := range map[string]struct{ goes, comes func(*yubihsmtest.Device) }{
		"the connector":     {(*yubihsmtest.Device).StopConnector, func(d *yubihsmtest.Device) { d.StartConnector(t) }},
		"the device behind": {(*yubihsmtest.Device).Unplug, (*yubihsmtest.Device).Plug},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, patient)
			goesAndComes := func() {
				for range maxAbandoned + 1 {
					w.fails("it is away")
				}
				away.comes(w.dev[0])
				w.signs("it is back")
				away.goes(w.dev[0])
			}
			away.goes(w.dev[0])
			w.fails("with the session that was open")
			w.halfMinute()
			// Whoever looks for it without a session leaves none there: it may go as often as if
			// nobody had. Each time costs the session that was open then.
			for range maxAbandoned {
				goesAndComes()
			}
		})
	}
}

// TestLeftNothing: after which failures of the handshake no session can be on the device.
func TestLeftNothing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&hsm.ConnectorError{Unsent: true, Cause: syscall.ECONNREFUSED}, true},
		{&hsm.ConnectorError{Unsent: true, Cause: context.DeadlineExceeded}, true},
		{&hsm.ConnectorError{Status: 500}, true},
		{&hsm.ConnectorError{Cause: io.ErrUnexpectedEOF}, false},
		{&hsm.ConnectorError{Cause: context.DeadlineExceeded}, false},
		{&hsm.USBError{Cause: hsm.ErrNoDevice}, true},
		{&hsm.USBError{Cause: syscall.EBUSY}, true},
		{&hsm.USBError{Cause: &os.PathError{Err: syscall.EACCES}}, true},
		{&hsm.USBError{Cause: syscall.EIO}, false},
		{&hsm.USBError{Cause: context.DeadlineExceeded}, false},
		{hsm.ErrWrongKey, false},
	} {
		if got := leftNothing(fmt.Errorf("cannot: %w", c.err)); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// TestRefusals are errors that a second try does not help against.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*yubihsmtest.Device)
		says string
	}{
		"no such key":       {func(d *yubihsmtest.Device) { d.Remove(yubihsmtest.AsymmetricKey, keyID) }, "object not found"},
		"the log is full":   {func(d *yubihsmtest.Device) { d.Always(yubihsmtest.SignEdDSA, yubihsmtest.Fails(yubihsmtest.LogFull)) }, "the log is full"},
		"another key":       {func(d *yubihsmtest.Device) { d.Swap(t, keyID) }, ", not ed25519 "},
		"a wrong signature": {func(d *yubihsmtest.Device) { d.Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature()) }, "does not verify, though it has the right key"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, patient)
			before := w.dev[0].Count(yubihsmtest.SignEdDSA)
			c.harm(w.dev[0])
			if err := w.fails(name); !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "the key 0x0001 on the YubiHSM at http://127.0.0.1:") {
				t.Errorf("%v", err)
			}
			if n := w.dev[0].Count(yubihsmtest.SignEdDSA) - before; n != 1 || w.marks() != "failed" {
				t.Errorf("it was asked %d times, and is %s", n, w.marks())
			}
			w.says(c.says)
		})
	}
}

// TestNoSession: why a device opens no session for us is said as doc/yubihsm.md has it, also
// where the device says less.
func TestNoSession(t *testing.T) {
	create := byte(hsm.CommandCreateSession)
	for says, harm := range map[string]func(*yubihsmtest.Device){
		"all 16 sessions are in use":            func(d *yubihsmtest.Device) { d.Always(create, yubihsmtest.FailsPlainly(yubihsmtest.SessionsFull)) },
		"there is no authentication key 0x0004": func(d *yubihsmtest.Device) { d.Remove(yubihsmtest.AuthenticationKey, 4) },
		"the password is not the one of authentication key 0x0004": func(d *yubihsmtest.Device) {
			d.Remove(yubihsmtest.AuthenticationKey, 4)
			d.ProvisionAuth(t, 4, "another", yubihsmtest.CanSignEdDSA)
		},
		"refuses create session: storage failure": func(d *yubihsmtest.Device) { d.Always(create, yubihsmtest.FailsPlainly(yubihsmtest.StorageFailed)) },
	} {
		w := newWorld(t, 1, patient)
		w.dev[0].Unplug()
		w.dev[0].Plug()
		harm(w.dev[0])
		if err := w.fails(says); !strings.Contains(err.Error(), "the key 0x0001 on the YubiHSM at "+w.dev[0].URL()+": "+says) && !strings.Contains(err.Error(), "at "+w.dev[0].URL()+": the YubiHSM "+says) {
			t.Error(err)
		}
		if says[:3] == "all" {
			w.dev[0].Heal()
			w.signs("afterwards")
		}
	}
}

func TestFailover(t *testing.T) {
	for name, harm := range map[string]func(*yubihsmtest.Device){
		"connector dead": func(d *yubihsmtest.Device) { d.StopConnector() },
		"unplugged":      func(d *yubihsmtest.Device) { d.Unplug() },
		"in a signature": func(d *yubihsmtest.Device) { d.Next(yubihsmtest.SignEdDSA, yubihsmtest.UnpluggedWithin()) },
		"sessions full": func(d *yubihsmtest.Device) {
			d.Unplug()
			d.Plug()
			d.Always(byte(hsm.CommandCreateSession), yubihsmtest.FailsPlainly(yubihsmtest.SessionsFull))
		},
		"log full":        func(d *yubihsmtest.Device) { d.Always(yubihsmtest.SignEdDSA, yubihsmtest.Fails(yubihsmtest.LogFull)) },
		"key exchanged":   func(d *yubihsmtest.Device) { d.Swap(t, keyID) },
		"key gone":        func(d *yubihsmtest.Device) { d.Remove(yubihsmtest.AsymmetricKey, keyID) },
		"wrong signature": func(d *yubihsmtest.Device) { d.Always(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature()) },
		"password gone":   func(d *yubihsmtest.Device) { d.Reset(); d.ProvisionAuth(t, authID, "other", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2, patient)
			w.signs("before")
			harm(w.dev[0])
			w.signs("within")
			if w.marks() != "failed ok" {
				t.Error(w.marks())
			}
			before := w.dev[0].Count(yubihsmtest.SignEdDSA)
			w.signs("afterwards")
			if n := w.dev[0].Count(yubihsmtest.SignEdDSA) - before; n != 0 {
				t.Errorf("the failed device was asked %d times", n)
			}
		})
	}
}

// TestMarkedDevicesAreAsked: a mark is no sentence, where nobody else is left.
func TestMarkedDevicesAreAsked(t *testing.T) {
	w := newWorld(t, 2, patient)
	w.dev[0].StopConnector()
	w.signs("on the second")
	w.dev[1].StopConnector()
	w.fails("on none")
	if w.marks() != "failed failed" {
		t.Error(w.marks())
	}
	w.dev[0].StartConnector(t)
	w.signs("on the first")
	if w.marks() != "ok failed" {
		t.Error(w.marks())
	}
}

// TestFailoverOfAHungDevice: the hung one has the time of one try, whoever waits for it.
func TestFailoverOfAHungDevice(t *testing.T) {
	short := patient
	short.try = 2 * time.Second
	w := newWorld(t, 2, short)
	w.dev[0].Always(yubihsmtest.SignEdDSA, w.dev[0].Hang())
	began := time.Now()
	done := make(chan struct{})
	for i := range 8 {
		go func() {
			w.signs(fmt.Sprint("chain ", i))
			done <- struct{}{}
		}()
	}
	for range 8 {
		<-done
	}
	if took := time.Since(began); took < short.try || w.marks() != "failed ok" {
		t.Errorf("it took %v, and they are %s", took, w.marks())
	}
	if n := w.dev[0].Count(yubihsmtest.SignEdDSA); n > 1 {
		t.Errorf("the hung device got %d commands", n)
	}
	w.dev[0].Heal()
}

// TestFailedBeforeTheNextTurn: who waits for a device that failed hears of it before it is
// their turn, and does not wait as well.
func TestFailedBeforeTheNextTurn(t *testing.T) {
	w := newWorld(t, 2, patient)
	heard := false
	w.log.hears = func() {
		heard = true
		if len(w.ours.list[0].turn) != 1 {
			t.Error("others had their turn before")
		}
	}
	w.dev[0].Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature())
	w.signs("on the other")
	if !heard || w.marks() != "failed ok" {
		t.Errorf("%v, %s", heard, w.marks())
	}
}

// wire is the way to a device, which can hang.
type wire struct {
	device *yubihsmtest.Device
	hangs  *atomic.Bool
}

func (w wire) Exchange(ctx context.Context, message []byte) ([]byte, error) {
	if w.hangs.Load() {
		<-ctx.Done()
		return nil, &hsm.ConnectorError{Cause: ctx.Err()}
	}
	answer, ok := w.device.Exchange(message)
	if !ok {
		return nil, &hsm.ConnectorError{Cause: io.ErrUnexpectedEOF}
	}
	return answer, nil
}

func (wire) Close() error { return nil }

// wired returns n times a device, which nobody looks after, by ways that hang when they are
// told. Its time is that of the bubble it is made in, where it has to be closed.
func (w *world) wired(t *testing.T, n int) (ds *Devices, hangs *atomic.Bool) {
	t.Helper()
	with := standard
	with.tend = time.Hour
	c := Config{AuthKey: authID, Key: hsm.DeriveKey([]byte("four"))}
	for i := range n {
		c.Addresses = append(c.Addresses, fmt.Sprint("http://127.0.0.1:", i+1))
	}
	ds, err := open(c, with)
	if err != nil {
		t.Fatal(err)
	}
	hangs = &atomic.Bool{}
	for _, d := range ds.list {
		d.transport = wire{w.dev[0], hangs}
	}
	return ds, hangs
}

// TestPatience: however many devices hang, Sign comes back when its time is up, and each of
// them has had a try.
func TestPatience(t *testing.T) {
	w := newWorld(t, 1, patient)
	synctest.Test(t, func(t *testing.T) {
		ds, hangs := w.wired(t, 2)
		defer ds.Close()
		hangs.Store(true)
		began := time.Now()
		_, err := ds.sign(w.key.target, []byte("both hang"))
		if took := time.Since(began); took != Patience || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
		for _, s := range ds.Status() {
			if s.Failed == nil {
				t.Errorf("%s was not asked", s.Address)
			}
		}
	})
}

// TestBackAfterAHang: however long a device hangs, it signs when it is back.
func TestBackAfterAHang(t *testing.T) {
	w := newWorld(t, 1, patient)
	synctest.Test(t, func(t *testing.T) {
		ds, hangs := w.wired(t, 1)
		defer ds.Close()
		for round := range 2 {
			if _, err := ds.sign(w.key.target, []byte("a vote")); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			hangs.Store(true)
			for range 2 * maxAbandoned {
				if _, err := ds.sign(w.key.target, []byte("it hangs")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it hangs: %v", err)
				}
			}
			hangs.Store(false)
		}
		if _, err := ds.sign(w.key.target, []byte("a vote")); err != nil {
			t.Errorf("it is back: %v", err)
		}
	})
}

// TestComesBack: a device that failed is looked at in the background, and used again.
func TestComesBack(t *testing.T) {
	often := patient
	often.tend = 5 * time.Millisecond
	w := newWorld(t, 2, often)
	w.dev[0].Unplug()
	w.signs("unplugged")
	w.dev[0].Swap(t, keyID)
	w.dev[0].Plug()
	w.await("another key is found", func() bool {
		return strings.Contains(fmt.Sprint(w.ours.Status()[0].Failed), ", not ed25519 key ") || strings.Contains(fmt.Sprint(w.ours.Status()[0].Failed), ", not ")
	})
	w.signs("exchanged")
	if n := w.dev[0].Count(yubihsmtest.SignEdDSA); n != 0 {
		t.Errorf("the device with another key signed %d times", n)
	}
	w.dev[0].Remove(yubihsmtest.AsymmetricKey, keyID)
	w.dev[0].Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: keyID, Algorithm: yubihsmtest.Ed25519, Domains: 1,
		Capabilities: yubihsmtest.CanSignEdDSA}, bytes.Repeat([]byte{7}, 32))
	w.await("it is back", func() bool { return w.marks() == "ok ok" })
	w.signs("back")
	if n := w.dev[0].Count(yubihsmtest.SignEdDSA); n != 1 {
		t.Errorf("the device that is back signed %d times", n)
	}
	w.says("a YubiHSM is back")
	if log := w.log.String(); strings.Count(log, "a YubiHSM failed") != 1 || strings.Count(log, "a YubiHSM is back") != 1 {
		t.Error(log)
	}
}

// TestKeepAlive: a session that nobody uses does not idle out, and one that is over is
// replaced before anybody needs it.
func TestKeepAlive(t *testing.T) {
	w := newWorld(t, 1, times{patience: time.Minute, try: 20 * time.Second, keepAlive: 0, tend: time.Millisecond})
	d := w.dev[0]
	sessions := d.Count(byte(hsm.CommandCreateSession))
	for range 5 {
		asked := d.Count(yubihsmtest.GetDeviceInfo)
		d.Advance(20 * time.Second)
		w.await("a question", func() bool { return d.Count(yubihsmtest.GetDeviceInfo) > asked+1 })
	}
	if n := d.Count(byte(hsm.CommandCreateSession)); n != sessions {
		t.Errorf("%d sessions were opened", n-sessions)
	}
	d.Unplug()
	d.Plug()
	w.await("a new session", func() bool { return d.Count(byte(hsm.CommandCreateSession)) > sessions })
}

// TestQuiet: a device that was asked who it is a moment ago is left alone, and another one is
// asked.
func TestQuiet(t *testing.T) {
	for keepAlive, want := range map[time.Duration]int{time.Hour: 1, 0: 2} {
		w := newWorld(t, 1, times{patience: time.Minute, try: 20 * time.Second, keepAlive: keepAlive, tend: time.Hour})
		w.signs("once")
		w.ours.list[0].keepAlive(t.Context(), func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if n := w.dev[0].Count(yubihsmtest.GetDeviceInfo); n != want {
			t.Errorf("%d questions, not %d", n, want)
		}
	}
}

// TestKeyRefuses: another key at the start is an error, on whichever device it is.
func TestKeyRefuses(t *testing.T) {
	w := newWorld(t, 2, patient)
	w.dev[1].Swap(t, keyID)
	if _, err := w.ours.Key(t.Context(), keyID, w.public); err == nil || !strings.Contains(err.Error(), w.dev[1].URL()) {
		t.Errorf("%v", err)
	}
	if there, err := w.ours.Public(t.Context(), keyID); err != nil || !there.Equal(w.public) {
		t.Errorf("%v, %v", there, err)
	}
	if _, err := w.ours.Public(t.Context(), 2); err == nil {
		t.Error("there is a key 2")
	}
	if _, err := w.ours.Key(t.Context(), keyID, pubkey.Key{}); err == nil {
		t.Error("a key without a public one")
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("no device at all")
	}
	if _, err := Open(Config{Addresses: []string{"127.0.0.1"}}); err == nil {
		t.Error("an address of nothing")
	}
}

// TestStartsWithoutDevices: nobody waits for a device at a start, and it is found later.
func TestStartsWithoutDevices(t *testing.T) {
	w := newWorld(t, 2, patient)
	for _, d := range w.dev {
		d.StopConnector()
	}
	key, err := w.ours.Key(t.Context(), keyID, w.public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, []byte("x"), nil); err == nil {
		t.Error("nobody signed")
	}
	w.dev[1].StartConnector(t)
	if _, err := key.Sign(nil, []byte("x"), nil); err != nil || w.marks() != "failed ok" {
		t.Errorf("%v; %s", err, w.marks())
	}
}

// TestClose: with the last key the session is closed on the device, and a Sign fails.
func TestClose(t *testing.T) {
	w := newWorld(t, 2, patient)
	second, err := w.ours.Key(t.Context(), keyID, w.public)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	second.Close()
	w.signs("with one key left")
	w.key.Close()
	for _, d := range w.dev {
		if n := d.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	}
	if err := w.fails("closed"); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if _, err := hsm.Authenticate(t.Context(), w.ours.list[0].transport, authID, w.ours.key); err == nil {
		t.Error("the key is still there")
	}
	if err := w.ours.Close(); err != nil {
		t.Error(err)
	}
}

// TestCloseEndsAll: Close ends what is under way, and waits until nobody uses the
// authentication key any more; what comes afterwards has no device to wait for.
func TestCloseEndsAll(t *testing.T) {
	w := newWorld(t, 1, patient)
	w.dev[0].Always(byte(hsm.CommandGetPublicKey), w.dev[0].Hang())
	done := make(chan error)
	ask := func() {
		_, err := w.ours.Public(context.Background(), keyID)
		done <- err
	}
	ends := func(when string) {
		t.Helper()
		select {
		case err := <-done:
			if !errors.Is(err, errClosed) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", when, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: it does not end", when)
		}
	}
	go ask()
	w.await("it asks", func() bool { return len(w.ours.list[0].turn) == 1 })
	w.ours.Close()
	ends("under way")
	go ask()
	ends("afterwards")
	if _, err := w.ours.Key(context.Background(), keyID, w.public); err == nil {
		t.Error("a key of closed devices")
	}
}

func TestCloseEndsSign(t *testing.T) {
	w := newWorld(t, 1, patient)
	w.dev[0].Always(yubihsmtest.SignEdDSA, w.dev[0].Hang())
	done := make(chan error)
	go func() {
		_, err := w.key.Sign(nil, []byte("x"), nil)
		done <- err
	}()
	w.await("it signs", func() bool { return len(w.ours.list[0].turn) == 1 })
	w.key.Close()
	if err := <-done; err == nil {
		t.Error("a signature")
	}
}

func TestConcurrentSigns(t *testing.T) {
	w := newWorld(t, 2, patient)
	done := make(chan struct{})
	for i := range 8 {
		go func() {
			for j := range 5 {
				if i == 3 && j == 2 {
					w.dev[0].Unplug()
				}
				w.signs(fmt.Sprint(i, " ", j))
			}
			done <- struct{}{}
		}()
	}
	for range 8 {
		<-done
	}
}

// TestPrints: nothing prints more of a key than its address.
func TestPrints(t *testing.T) {
	w := newWorld(t, 1, patient)
	want := "YubiHSM key " + w.public.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, w.key); got != want {
			t.Errorf("%s: %s", verb, got)
		}
	}
	if got := w.key.LogValue().String(); got != want {
		t.Error(got)
	}
}

// TestFaultsUnderLoad has eight chains sign while faults strike the first of two devices, one
// after the other: every vote is signed, and sessions do not pile up.
func TestFaultsUnderLoad(t *testing.T) {
	often := patient
	often.tend = 2 * time.Millisecond
	w := newWorld(t, 2, often)
	ended := make(chan struct{})
	var chains sync.WaitGroup
	defer chains.Wait()
	defer close(ended)
	for i := range 8 {
		chains.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
					w.signs(fmt.Sprintf("%d of chain %d", n, i))
				}
			}
		})
	}
	sign := byte(yubihsmtest.SignEdDSA)
	for round := range 12 {
		d := w.dev[0]
		faults := []yubihsmtest.Fault{yubihsmtest.Drop(), yubihsmtest.DropAnswer(), yubihsmtest.BadMAC(), yubihsmtest.WrongSignature(),
			yubihsmtest.FailsPlainly(yubihsmtest.InvalidSession), yubihsmtest.UnpluggedWithin()}
		before := d.Count(sign)
		d.Next(sign, faults[round%6])
		w.await("the fault strikes", func() bool { return d.Count(sign) > before || w.marks() != "ok ok" })
		d.Plug()
		w.await("both are back", func() bool { return w.marks() == "ok ok" })
		d.Heal()
		if n := d.Sessions(); n > maxAbandoned+1 {
			t.Errorf("round %d: %d sessions", round, n)
		}
		w.halfMinute()
	}
}

// What a node waits for, if the first device hangs: the time of a try, and vote and extension
// on the second device, which is slow as well.
func TestFailoverInTime(t *testing.T) {
	const slow = 146 * time.Millisecond
	if most := standard.try + 2*slow; most > 1200*time.Millisecond {
		t.Errorf("a hanging device costs %v", most)
	}
	if standard.try < 5*slow {
		t.Errorf("a device has %v, and takes %v when nothing is wrong, a session included", standard.try, 3*slow)
	}
}

// TestStatusOfAKey: each key counts its own signatures on each device, and what a device says
// of itself is not that of long ago.
func TestStatusOfAKey(t *testing.T) {
	// Older firmware has the log on from the start.
	w := worldOf(t, 2, times{patience: time.Minute, try: 20 * time.Second, keepAlive: 0, tend: time.Millisecond}, yubihsmtest.Ed25519, yubihsmtest.Options{Firmware: [3]byte{2, 2, 0}})
	for _, d := range w.dev {
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: 9, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, bytes.Repeat([]byte{9}, 32))
	}
	public, err := w.ours.Public(t.Context(), 9)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.ours.Key(t.Context(), 9, public)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.signs("once")
	w.dev[0].Unplug()
	w.signs("by the other device")
	if _, err := other.Sign(nil, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	s, o := w.key.Status(), other.Status()
	if s[0].Signatures != 1 || s[1].Signatures != 1 || o[0].Signatures != 0 || o[1].Signatures != 1 || w.ours.Status()[1].Signatures != 2 {
		t.Errorf("%+v\n%+v", s, o)
	}
	if s[0].Failed == nil || s[0].Since.Before(began) || s[1].Failed != nil || !s[1].Since.Before(began) || s[1].Took != s[1].LastTook || o[0].LastTook != 0 {
		t.Errorf("%+v", s)
	}
	used := s[1].Info.LogUsed
	w.await("the log fills", func() bool {
		w.signs("again")
		return w.key.Status()[1].Info.LogUsed > used+3
	})
}

// TestStatusOfAHungDevice: a device that does not answer keeps nobody from knowing so.
func TestStatusOfAHungDevice(t *testing.T) {
	w := newWorld(t, 1, patient)
	w.dev[0].Always(yubihsmtest.SignEdDSA, w.dev[0].Hang())
	defer w.dev[0].Heal()
	signed := make(chan struct{})
	go func() {
		defer close(signed)
		w.key.Sign(nil, []byte("a vote"), nil)
	}()
	w.await("it hangs", func() bool { return len(w.ours.list[0].turn) == 1 })
	if s := w.key.Status(); len(s) != 1 || s[0].Failed != nil || s[0].Signatures != 0 {
		t.Errorf("%+v", s)
	}
	w.dev[0].Heal()
	<-signed
}

// TestExchanged: that another key is on each device does not pass by itself; on one of two it
// is a device that failed.
func TestExchanged(t *testing.T) {
	lasts := func(err error) bool {
		lasting, ok := errors.AsType[interface {
			error
			Lasting() bool
		}](err)
		return ok && lasting.Lasting()
	}
	w := newWorld(t, 2, patient)
	w.dev[0].Swap(t, keyID)
	w.signs("on the other device")
	w.dev[1].Unplug()
	if err := w.fails("one exchanged, one gone"); lasts(err) {
		t.Error(err)
	}
	w.dev[1].Plug()
	w.dev[1].Swap(t, keyID)
	if err := w.fails("both exchanged"); !lasts(err) || strings.Count(err.Error(), ", not ed25519 ") != 2 || strings.Count(err.Error(), "the key 0x0001") != 2 {
		t.Error(err)
	}
	for _, d := range w.dev {
		d.Provision(t, yubihsmtest.Object{Type: yubihsmtest.AsymmetricKey, ID: keyID, Algorithm: yubihsmtest.Ed25519, Domains: 1, Capabilities: yubihsmtest.CanSignEdDSA}, bytes.Repeat([]byte{7}, 32))
	}
	w.signs("when it is back")
	w.dev[0].Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature())
	w.dev[1].Next(yubihsmtest.SignEdDSA, yubihsmtest.WrongSignature())
	if err := w.fails("both compute wrongly"); lasts(err) {
		t.Error(err)
	}
}
