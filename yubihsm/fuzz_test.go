package yubihsm

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
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

// FuzzHandshake is what can be answered to who opens a session.
func FuzzHandshake(f *testing.F) {
	f.Add(encode(0x83, make([]byte, 17)))
	f.Add([]byte{0x7f, 0, 1, 5})
	f.Fuzz(func(t *testing.T, answer []byte) {
		m := newMirror(t)
		m.fault = func(_, _ []byte) ([]byte, error) { return answer, nil }
		if s, err := Authenticate(context.Background(), m, 1, m.keys); err == nil {
			t.Errorf("%x opens %v", answer, s)
		}
	})
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
