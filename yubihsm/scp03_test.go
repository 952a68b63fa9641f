package yubihsm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of RFC 4493, section 4.
func TestCMAC(t *testing.T) {
	key := key128(unhex(t, "2b7e1516 28aed2a6 abf71588 09cf4f3c"))
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710")
	for _, c := range []struct {
		length int
		mac    string
	}{
		{0, "bb1d6929e95937287fa37d129b756746"},
		{16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{40, "dfa66747de9ae63030ca32611497c827"},
		{64, "51f0bebf7e3b9d92fc49741779363cfe"},
	} {
		if mac := key.cmac(message[:c.length/3], message[c.length/3:c.length]); !bytes.Equal(mac[:], unhex(t, c.mac)) {
			t.Errorf("the MAC of %d bytes is %x, not %s", c.length, mac, c.mac)
		}
	}
}

// The default authentication key of a device, as yubihsm.h has its two halves.
func TestDeriveKey(t *testing.T) {
	k := DeriveKey([]byte("password")).hidden.get()
	if !bytes.Equal(k.enc[:], unhex(t, "090b47dbed595654901dee1cc655e420")) || !bytes.Equal(k.mac[:], unhex(t, "592fd483f759e29909a04c4505d2ce0a")) {
		t.Errorf("the key of the default password is %x %x", k.enc, k.mac)
	}
}

// recording is what was sent to a device, and what it answered.
type recording struct {
	name      string
	exchanges [][2][]byte
}

// readRecording reads a file of testdata/recorded: lines "> MESSAGE" and "< ANSWER".
func readRecording(t testing.TB, file string) (r recording) {
	t.Helper()
	r.name = strings.TrimSuffix(filepath.Base(file), ".txt")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		switch side, bytes, _ := strings.Cut(lines.Text(), " "); side {
		case ">":
			r.exchanges = append(r.exchanges, [2][]byte{unhex(t, bytes)})
		case "<":
			r.exchanges[len(r.exchanges)-1][1] = unhex(t, bytes)
		}
	}
	return r
}

// replay is the transport to a device that was recorded. It takes the messages that were
// sent to it then, and no others.
type replay struct {
	t    testing.TB
	rest [][2][]byte
}

func (r *replay) Exchange(_ context.Context, message []byte) ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, errors.New("the recording is over")
	}
	next := r.rest[0]
	r.rest = r.rest[1:]
	if !bytes.Equal(message, next[0]) {
		r.t.Errorf("we send\n%x, and the recorded program\n%x", message, next[0])
	}
	return next[1], nil
}

func (r *replay) Close() error { return nil }

// start opens the session of a recording, whose first message tells the device's
// authentication key and our challenge.
func (r recording) start(t testing.TB) (*Session, *replay, error) {
	t.Helper()
	password := "password"
	if strings.Contains(r.name, "password-foobar") {
		password = "foobar"
	}
	for len(r.exchanges) > 0 && r.exchanges[0][0][0] != byte(CommandCreateSession) {
		r.exchanges = r.exchanges[1:]
	}
	if len(r.exchanges) == 0 {
		return nil, nil, nil
	}
	first := r.exchanges[0][0]
	device := &replay{t, r.exchanges}
	s, err := authenticate(t.Context(), device, uint16(first[3])<<8|uint16(first[4]), DeriveKey([]byte(password)), [8]byte(first[5:]))
	return s, device, err
}

// TestRecorded sends what other programs sent to real devices, byte for byte, and reads
// what those answered.
func TestRecorded(t *testing.T) {
	files, _ := filepath.Glob("testdata/recorded/*.txt")
	if len(files) < 12 {
		t.Fatalf("%d recordings", len(files))
	}
	sessions, messages := 0, 0
	for _, file := range files {
		r := readRecording(t, file)
		if strings.HasPrefix(r.name, "connector-edited") {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			s, device, err := r.start(t)
			var refused *DeviceError
			if r.name == "unproven_session-too-many" {
				if !errors.As(err, &refused) || refused.Code != SessionsFull {
					t.Errorf("the 17th session: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s == nil {
				return // no session in it
			}
			sessions++
			for len(device.rest) > 0 {
				c, data := reveal(t, s, device.rest[0][0])
				answer, err := s.Send(t.Context(), c, data)
				if err != nil {
					t.Fatalf("%v: %v", c, err)
				}
				messages++
				understand(t, c, data, answer)
			}
		})
	}
	if sessions != 7 || messages != 18 {
		t.Errorf("%d sessions with %d messages", sessions, messages)
	}
}

// reveal decrypts what was sent to the device next. The session does not move.
func reveal(t *testing.T, s *Session, message []byte) (Command, []byte) {
	t.Helper()
	c := *s.channel.get()
	c.counter++
	c.answerMAC = c.mac // of a command
	turned := append([]byte{message[0] | answerFlag}, message[1:]...)
	mac := c.mac.cmac(c.chain[:], turned[:len(turned)-macSize])
	inner, err := c.open(s.id, append(turned[:len(turned)-macSize], mac[:macSize]...))
	if err != nil || len(inner) < headerSize {
		t.Fatalf("%x: %v", inner, err)
	}
	return Command(inner[0]), inner[headerSize:]
}

// understand parses an answer.
func understand(t *testing.T, c Command, data, answer []byte) {
	t.Helper()
	var err error
	switch c {
	case CommandEcho:
		if !bytes.Equal(answer, data) {
			err = fmt.Errorf("%x comes back as %x", data, answer)
		}
	case CommandCloseSession, CommandDeleteObject:
		err = empty(c, answer, nil)
	case CommandGetPublicKey:
		_, err = parsePublicKey(answer)
	case CommandGetDeviceInfo:
		_, err = parseDeviceInfo(answer)
	case CommandSignECDSA:
		_, err = parseECDSA(answer)
	default:
		t.Logf("%v is answered with %d bytes", c, len(answer))
	}
	if err != nil {
		t.Errorf("%v: %v", c, err)
	}
}

func TestRecordedDeviceInfo(t *testing.T) {
	r := readRecording(t, "testdata/recorded/connector_unauthenticated-device-info.txt")
	d, err := ReadDeviceInfo(t.Context(), &replay{t, r.exchanges})
	if err != nil || d.Version != [3]byte{2, 2, 0} || d.Serial != 16499556 || d.LogSize != 62 || d.LogUsed != 62 || len(d.Algorithms) != 48 || d.MessageBuffer() != 2048 {
		t.Errorf("%+v, %v", d, err)
	}
	if got := d.String(); got != "YubiHSM 0016499556, firmware 2.2.0" {
		t.Errorf("%q", got)
	}
}

// TestRecordedFaults reads answers of a device that were changed.
func TestRecordedFaults(t *testing.T) {
	file := func(name string) recording {
		return readRecording(t, "testdata/recorded/connector-edited_"+name+".txt")
	}
	if _, _, err := file("session-bad-create-session-response").start(t); !errors.Is(err, ErrWrongKey) {
		t.Errorf("a wrong cryptogram: %v", err)
	}
	var refused *DeviceError
	if _, _, err := file("session-authenticate-session-fails").start(t); !errors.As(err, &refused) || refused.Code != SessionFailed {
		t.Errorf("the device does not accept our cryptogram: %v", err)
	}
	s, device, err := file("session-bad-mac").start(t)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Echo(t.Context(), []byte{0xff})
	var over *SessionError
	if !errors.As(err, &over) || !errors.Is(err, ErrBadMAC) {
		t.Errorf("a wrong MAC: %v", err)
	}
	device.rest = [][2][]byte{{nil, nil}}
	if again := s.Echo(t.Context(), nil); again != err || len(device.rest) != 1 {
		t.Errorf("after a wrong MAC: %v, %d messages left", again, len(device.rest))
	}
}
