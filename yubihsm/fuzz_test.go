package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// FuzzAnswers hands the data of an answer to the decoders of all commands: each returns
// what the answer says, which takes the same bytes, or an error.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{2, 2, 0, 0, 251, 195, 100, 62, 62, 46, 1, 255})
	f.Add(append([]byte{46}, make([]byte, 32)...))
	f.Add(make([]byte, 10))
	f.Add([]byte{0, 7, 3, 1, 0, 8, 3, 0})
	f.Add(make([]byte, 66))
	f.Add(append([]byte{0, 1, 0, 2, 1}, make([]byte, 32)...))
	f.Add([]byte{3, 0, 9})
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{1})
	f.Add([]byte{1, 0, 2, 1})
	f.Fuzz(func(t *testing.T, answer []byte) {
		before := bytes.Clone(answer)
		if d, err := parseDeviceInfo(answer); (err == nil) != (len(answer) >= 9) || err == nil && len(d.Algorithms) != len(answer)-9 {
			t.Errorf("device info: %+v, %v", d, err)
		}
		if _, err := parseStorageInfo(answer); (err == nil) != (len(answer) == 10) {
			t.Errorf("storage info: %v", err)
		}
		if list, err := parseEntries(answer); (err == nil) != (len(answer)%4 == 0) || err == nil && len(list) != len(answer)/4 {
			t.Errorf("entries: %v", err)
		}
		if i, err := parseObjectInfo(answer); (err == nil) != (len(answer) == 66) || len(i.Label) > MaxLabel {
			t.Errorf("object info: %v", err)
		}
		if k, err := parsePublicKey(answer); err == nil && len(k.Bytes) != len(answer)-1 {
			t.Errorf("public key: %+v", k)
		}
		if l, err := parseLog(answer); err == nil && (len(l.Entries) != int(answer[4]) || 5+entrySize*len(l.Entries) != len(answer)) {
			t.Errorf("log: %+v", l)
		}
		if _, err := parseForceAudit(answer); (err == nil) != (len(answer) == 1 && answer[0] <= 2) {
			t.Errorf("force-audit: %v", err)
		}
		if m, err := parseCommandAudit(answer); err == nil && len(m) != len(answer)/2 {
			t.Errorf("command-audit: %v", m)
		}
		if _, _, err := parseImported(answer); (err == nil) != (len(answer) == 3) {
			t.Errorf("imported: %v", err)
		}
		if _, err := parseID(answer, 0); (err == nil) != (len(answer) == 2) {
			t.Errorf("id: %v", err)
		}
		if der, err := parseECDSA(answer); err == nil && len(der) != len(answer) {
			t.Errorf("ECDSA: %x", der)
		}
		if der, err := parseDER(answer); err == nil && len(der) != len(answer) {
			t.Errorf("certificate: %x", der)
		}
		if !bytes.Equal(before, answer) {
			t.Error("an answer was changed")
		}
	})
}

// FuzzSessionMessage: without the keys nobody makes an answer that a session takes for one.
func FuzzSessionMessage(f *testing.F) {
	files, _ := filepath.Glob("testdata/recorded/*.txt")
	for _, file := range files {
		for _, e := range readRecording(f, file).exchanges {
			f.Add(e[1])
		}
	}
	f.Add([]byte{0x7f, 0, 1, 3})
	f.Add(encode(0x85, make([]byte, 25)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		m := newMirror(t)
		s := m.open()
		m.fault = func(_, _ []byte) ([]byte, error) { return answer, nil }
		_, err := s.Send(context.Background(), CommandEcho, nil)
		var over *SessionError
		if !errors.As(err, &over) {
			t.Errorf("%x is an answer: %v", answer, err)
		}
	})
}

// FuzzInnerMessage is what the device itself can say within a session.
func FuzzInnerMessage(f *testing.F) {
	f.Add([]byte{0x81, 0, 0})
	f.Add([]byte{0x7f, 0, 1, 9})
	f.Add([]byte{0x81, 0, 3, 1, 2, 3})
	f.Fuzz(func(t *testing.T, inner []byte) {
		if len(inner) > 3000 {
			return
		}
		m := newMirror(t)
		s := m.open()
		m.answer = func(Command, []byte) []byte { return inner }
		data, err := s.Send(context.Background(), CommandEcho, nil)
		var refused *DeviceError
		var over *SessionError
		switch {
		case err == nil && !bytes.Equal(encode(CommandEcho|answerFlag, data), inner):
			t.Errorf("%x is read as %x", inner, data)
		case err != nil && !errors.As(err, &over) && (!errors.As(err, &refused) || !bytes.Equal(inner, []byte{0x7f, 0, 1, byte(refused.Code)})):
			t.Errorf("%x: %v", inner, err)
		}
	})
}

// FuzzMethods is what the device can answer to the methods whose answers have one form: each
// takes what has it, and nothing else.
func FuzzMethods(f *testing.F) {
	for which := range methods {
		f.Add(uint8(which), []byte{})
	}
	f.Add(uint8(0), []byte("xyz"))
	f.Add(uint8(1), make([]byte, 64))
	f.Add(uint8(2), make([]byte, 3))
	f.Add(uint8(3), make([]byte, 30))
	f.Add(uint8(4), make([]byte, 32))
	f.Add(uint8(5), make([]byte, 1))
	f.Add(uint8(6), append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 3}, make([]byte, 51)...))
	f.Add(uint8(7), []byte{0, 9})
	f.Add(uint8(8), []byte{0, 1})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		if int(which) >= len(methods) || len(data) > 3000 {
			return
		}
		m := newMirror(t)
		s := m.open()
		m.answer = func(c Command, _ []byte) []byte { return encode(c|answerFlag, data) }
		method := methods[which]
		if err := method.call(context.Background(), s); (err == nil) != method.right(data) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("method %d takes %x: %v", which, data, err)
		}
	})
}

func size(n int) func([]byte) bool { return func(data []byte) bool { return len(data) == n } }

func equal(want string) func([]byte) bool {
	return func(data []byte) bool { return string(data) == want }
}

// methods are methods of a session, and which answers to them are right.
var methods = []struct {
	call  func(ctx context.Context, s *Session) error
	right func(data []byte) bool
}{
	{func(ctx context.Context, s *Session) error { return s.Echo(ctx, []byte("xyz")) }, equal("xyz")},
	{func(ctx context.Context, s *Session) error { _, err := s.SignEdDSA(ctx, 9, nil); return err }, size(64)},
	{func(ctx context.Context, s *Session) error { _, err := s.PseudoRandom(ctx, 3); return err }, size(3)},
	{func(ctx context.Context, s *Session) error {
		_, err := s.ExportWrapped(ctx, 1, TypeAsymmetricKey, 9)
		return err
	}, func(data []byte) bool { return len(data) > wrapOverhead }},
	{func(ctx context.Context, s *Session) error { _, err := s.WrapData(ctx, 1, []byte("xyz")); return err }, size(3 + wrapOverhead)},
	{func(ctx context.Context, s *Session) error {
		_, err := s.UnwrapData(ctx, 1, make([]byte, 1+wrapOverhead))
		return err
	}, size(1)},
	{func(ctx context.Context, s *Session) error {
		_, err := s.ObjectInfo(ctx, TypeAsymmetricKey, 9)
		return err
	},
		func(data []byte) bool { return len(data) == 66 && data[8] == 0 && data[9] == 9 && data[14] == 3 }},
	{func(ctx context.Context, s *Session) error {
		_, err := s.PutOpaque(ctx, Object{ID: 9, Domains: 1, Algorithm: OpaqueData}, nil)
		return err
	}, equal("\x00\x09")},
	{func(ctx context.Context, s *Session) error {
		return s.ChangeAuthenticationKey(ctx, NewKey([16]byte{}, [16]byte{}))
	}, equal("\x00\x01")},
	{func(ctx context.Context, s *Session) error { return s.Blink(ctx, 1) }, size(0)},
	{func(ctx context.Context, s *Session) error { return s.DeleteObject(ctx, TypeAsymmetricKey, 9) }, size(0)},
	{func(ctx context.Context, s *Session) error { return s.SetLogIndex(ctx, 1) }, size(0)},
	{func(ctx context.Context, s *Session) error { return s.SetForceAudit(ctx, AuditOn) }, size(0)},
	{func(ctx context.Context, s *Session) error { return s.Close(ctx) }, size(0)},
	{func(ctx context.Context, s *Session) error { return s.ResetDevice(ctx) }, size(0)},
}

// FuzzHandshake is what can be answered to who opens a session: to its first message, and to
// the second after the device has shown that it knows the key. Nothing but the one right answer
// opens it.
func FuzzHandshake(f *testing.F) {
	f.Add(false, encode(0x83, make([]byte, 17)))
	f.Add(false, []byte{0x7f, 0, 1, 5})
	f.Add(true, encode(0x84, nil))
	f.Add(true, encode(0x84, []byte{0}))
	f.Add(true, []byte{0x7f, 0, 1, 4})
	f.Fuzz(func(t *testing.T, second bool, answer []byte) {
		m := newMirror(t)
		m.fault = func(message, right []byte) ([]byte, error) {
			if second && Command(message[0]) == CommandCreateSession {
				return right, nil
			}
			return answer, nil
		}
		s, err := Authenticate(context.Background(), m, 1, m.keys)
		if opens := second && bytes.Equal(answer, []byte{0x84, 0, 0}); (err == nil) != opens {
			t.Errorf("%x opens %v: %v", answer, s, err)
		}
	})
}

// FuzzDeviceInfo is what anybody on the way can say about a device outside of a session.
func FuzzDeviceInfo(f *testing.F) {
	f.Add(encode(0x86, []byte{2, 2, 0, 0, 251, 195, 100, 62, 62, 46}))
	f.Add([]byte{0x7f, 0, 1, 1})
	f.Fuzz(func(t *testing.T, answer []byte) {
		m := newMirror(t)
		m.fault = func(_, _ []byte) ([]byte, error) { return answer, nil }
		d, err := ReadDeviceInfo(context.Background(), m)
		if size := d.MessageBuffer(); err == nil && len(answer) != 3+9+len(d.Algorithms) || size != MaxMessage && size != oldMessage {
			t.Errorf("%x: %+v, %v", answer, d, err)
		}
	})
}

// FuzzUSBAnswer is what comes from the USB after a message: the transport returns it as it is,
// if it can be the answer, or an error, and closes the device then.
func FuzzUSBAnswer(f *testing.F) {
	f.Add([]byte{0x81, 0, 0})
	f.Add([]byte{0x7f, 0, 1, 3})
	f.Add([]byte{})
	f.Add(make([]byte, MaxMessage+1))
	f.Fuzz(func(t *testing.T, answer []byte) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		p := &said{answer: answer, silent: cancel}
		u, err := newUSB("", func(string) (pipe, error) { return p, nil })
		if err != nil {
			t.Fatal(err)
		}
		got, err := u.Exchange(ctx, encode(CommandEcho, nil))
		can := len(answer) > 0 && len(answer) <= MaxMessage && (answer[0] == 0x81 || answer[0] == 0x7f)
		var failed *USBError
		if can != (err == nil) || can && !bytes.Equal(got, answer) || !can && (!errors.As(err, &failed) || !p.closed) {
			t.Errorf("%x is read as %x, closed %v: %v", answer, got, p.closed, err)
		}
	})
}

// said is a device on the USB that says one thing.
type said struct {
	answer               []byte
	silent               func() // is called when it has said it, and more is waited for
	asked, given, closed bool
}

func (p *said) Write([]byte, time.Duration) error { p.asked = true; return nil }
func (p *said) Close() error                      { p.closed = true; return nil }

func (p *said) Read(buffer []byte, _ time.Duration) (int, error) {
	if p.given {
		p.silent()
	}
	if !p.asked || p.given {
		return 0, syscall.ETIMEDOUT
	}
	p.given = true
	return copy(buffer, p.answer), nil
}

// FuzzStatus is the page of a connector.
func FuzzStatus(f *testing.F) {
	f.Add("status=OK\nserial=*\nversion=3.0.5\npid=77\naddress=localhost\nport=12345\n")
	f.Add("status\nOK")
	f.Fuzz(func(t *testing.T, page string) {
		if s, err := parseStatus(page); err != nil && s != (ConnectorStatus{}) {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
