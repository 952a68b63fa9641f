package yubihsm

import (
	"context"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// mirror is the other end of a session, made from our own half of the protocol: it shows
// what a session does with answers, not that the protocol is right, which the recordings and
// the simulator do. Command answers with the same data, unless answer says otherwise.
type mirror struct {
	t      testing.TB
	answer func(c Command, data []byte) []byte                      // an inner message
	fault  func(message, answer []byte) (changed []byte, err error) // on the way back
	size   func(message []byte)                                     // what is sent
	blocks []byte                                                   // an inner message with its padding, in place of an answer
	other  byte                                                     // is added to the session in answers

	session byte
	keys    AuthenticationKey
	channel *channel
	begun   handshake
}

func newMirror(t testing.TB) *mirror {
	return &mirror{t: t, session: 7, keys: NewKey([16]byte{1, 2, 3}, [16]byte{4, 5, 6})}
}

// open opens a session with the mirror.
func (m *mirror) open() *Session {
	m.t.Helper()
	s, err := Authenticate(context.Background(), m, 1, m.keys)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *mirror) Close() error { return nil }

func (m *mirror) Exchange(_ context.Context, message []byte) ([]byte, error) {
	if m.size != nil {
		m.size(message)
	}
	answer := m.respond(message)
	if m.fault != nil {
		return m.fault(message, answer)
	}
	return answer, nil
}

func (m *mirror) respond(message []byte) []byte {
	data := message[headerSize:]
	switch command := Command(message[0]); command {
	case CommandCreateSession:
		m.begun = handshake(append(data[2:10:10], "devicech"...))
		c := newChannel(m.keys.hidden.get(), m.begun)
		m.channel = &c
		cryptogram := m.begun.cryptogram(&m.channel.mac, deriveCardCryptogram)
		return encode(command|answerFlag, append(append([]byte{m.session}, m.begun[8:]...), cryptogram[:]...))
	case CommandAuthenticateSession:
		if string(m.channel.sign(command, data[:9])) != string(message) {
			return []byte{0x7f, 0, 1, byte(AuthenticationFailed)}
		}
		return encode(command|answerFlag, nil)
	case CommandSessionMessage:
		return m.respondInside(message)
	}
	return []byte{0x7f, 0, 1, byte(InvalidCommand)}
}

func (m *mirror) respondInside(message []byte) []byte {
	ours := *m.channel
	ours.counter++
	ours.answerMAC = ours.mac
	mac := ours.mac.cmac(ours.chain[:], message[:len(message)-macSize])
	if string(mac[:macSize]) != string(message[len(message)-macSize:]) {
		return []byte{0x7f, 0, 1, byte(AuthenticationFailed)}
	}
	turned := append([]byte{message[0] | answerFlag}, message[1:len(message)-macSize]...)
	tag := ours.mac.cmac(ours.chain[:], turned)
	inner, err := ours.open(m.session, append(turned, tag[:macSize]...))
	if err != nil {
		m.t.Fatal(err)
	}
	m.channel.counter, m.channel.chain = ours.counter, mac
	reply := encode(Command(inner[0])|answerFlag, inner[headerSize:])
	if m.answer != nil {
		reply = m.answer(Command(inner[0]), inner[headerSize:])
	}
	return m.wrap(reply)
}

// wrap returns an inner answer as a session message.
func (m *mirror) wrap(inner []byte) []byte {
	if m.blocks != nil {
		return m.wrapBlocks(m.blocks)
	}
	back := channel{enc: m.channel.enc, mac: m.channel.answerMAC, chain: m.channel.chain, counter: m.channel.counter - 1}
	sealed := back.seal(m.session, inner)
	clear := make([]byte, len(sealed)-headerSize-1-macSize)
	back.counter = m.channel.counter
	cipher.NewCBCDecrypter(back.enc.block(), back.vector()).CryptBlocks(clear, sealed[headerSize+1:len(sealed)-macSize])
	return m.wrapBlocks(clear)
}

// wrapBlocks returns an inner answer with its padding as a session message.
func (m *mirror) wrapBlocks(blocks []byte) []byte {
	data := append([]byte{m.session + m.other}, blocks...)
	whole := data[1 : 1+len(blocks)/16*16]
	cipher.NewCBCEncrypter(m.channel.enc.block(), m.channel.vector()).CryptBlocks(whole, whole)
	answer := encode(CommandSessionMessage|answerFlag, append(data, make([]byte, macSize)...))
	mac := m.channel.answerMAC.cmac(m.channel.chain[:], answer[:len(answer)-macSize])
	return append(answer[:len(answer)-macSize], mac[:macSize]...)
}

// TestWrapping is what answers may have around them that is authentic and wrong.
func TestWrapping(t *testing.T) {
	message := encode(CommandEcho|answerFlag, []byte("0123456789abc")) // a block
	block := func(b ...byte) []byte { return append(b, make([]byte, 16-len(b))...) }
	for name, c := range map[string]struct {
		blocks []byte
		other  byte
		ok     bool
	}{
		"as it should be":    {slices.Concat(message, block(0x80)), 0, true},
		"another session":    {slices.Concat(message, block(0x80)), 1, false},
		"no padding":         {message, 0, false},
		"only zeros":         {slices.Concat(message, block()), 0, false},
		"zeros that count":   {encode(CommandEcho|answerFlag, make([]byte, 29)), 0, false},
		"another byte":       {slices.Concat(message, block(0x81)), 0, false},
		"a byte behind":      {slices.Concat(message, block(0x80, 1)), 0, false},
		"a block too many":   {slices.Concat(message, block(0x80), block()), 0, false},
		"a part of a block":  {slices.Concat(message, block(0x80), []byte{1}), 0, false},
		"only part of one":   {[]byte{1}, 0, false},
		"no block":           {[]byte{}, 0, false},
		"a message in front": {slices.Concat(message, message, block(0x80)), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			s := m.open()
			m.blocks, m.other = c.blocks, c.other
			var over *SessionError
			if _, err := s.Send(t.Context(), CommandEcho, nil); (err == nil) != c.ok || !c.ok && !errors.As(err, &over) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestLogEntryFollows: an entry's digest covers it and the one before, and the numbers go on.
func TestLogEntryFollows(t *testing.T) {
	first := LogEntry{Number: 65535, Command: CommandEcho, Digest: [16]byte{1}}
	chain := func(e LogEntry) LogEntry {
		digest := sha256.Sum256(append(e.bytes(), first.Digest[:]...))
		e.Digest = [16]byte(digest[:16])
		return e
	}
	if next := chain(LogEntry{Number: 0}); !next.Follows(first) {
		t.Error("entry 0 does not follow 65535")
	}
	if next := chain(LogEntry{Number: 1}); next.Follows(first) {
		t.Error("entry 1 follows 65535")
	}
}

// TestSessionIsOver changes one answer in each possible way: the session ends, says so from
// then on, sends nothing more, and closes without a word.
func TestSessionIsOver(t *testing.T) {
	flip := func(i int) func(_, answer []byte) ([]byte, error) {
		return func(_, answer []byte) ([]byte, error) {
			answer[(i+len(answer))%len(answer)] ^= 1
			return answer, nil
		}
	}
	refuse := func(code ErrorCode) func(_, _ []byte) ([]byte, error) {
		return func(_, _ []byte) ([]byte, error) { return []byte{0x7f, 0, 1, byte(code)}, nil }
	}
	type fault = func(message, answer []byte) ([]byte, error)
	faults := map[string]fault{
		"no answer":         func(_, _ []byte) ([]byte, error) { return nil, errors.New("cut off") },
		"an empty answer":   func(_, _ []byte) ([]byte, error) { return nil, nil },
		"its own message":   func(message, _ []byte) ([]byte, error) { return message, nil },
		"a shorter answer":  func(_, answer []byte) ([]byte, error) { return answer[:len(answer)-1], nil },
		"a longer answer":   func(_, answer []byte) ([]byte, error) { return append(answer, 0), nil },
		"only a header":     func(_, _ []byte) ([]byte, error) { return []byte{0x85, 0, 0}, nil },
		"only a MAC":        func(_, _ []byte) ([]byte, error) { return encode(0x85, make([]byte, 8)), nil },
		"no block":          func(_, _ []byte) ([]byte, error) { return encode(0x85, make([]byte, 9)), nil },
		"a block and a bit": func(_, _ []byte) ([]byte, error) { return encode(0x85, make([]byte, 26)), nil },
		"session gone":      refuse(InvalidSession),
		"MAC not accepted":  refuse(AuthenticationFailed),
		"log full, outside": refuse(LogFull),
		"long error":        func(_, _ []byte) ([]byte, error) { return []byte{0x7f, 0, 2, 1, 1}, nil },
	}
	for i := range 36 { // header, session, two blocks, MAC
		faults[fmt.Sprintf("byte %d changed", i)] = flip(i)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			s := m.open()
			m.fault = fault
			secret := s.channel.get()
			err := s.Echo(t.Context(), []byte("sixteen bytes and"))
			var over *SessionError
			if !errors.As(err, &over) || over.Cause == nil || !strings.Contains(err.Error(), over.Cause.Error()) {
				t.Fatalf("%v", err)
			}
			m.fault = func(_, _ []byte) ([]byte, error) { t.Error("a message is sent"); return nil, nil }
			if again := s.Blink(t.Context(), 1); again != err {
				t.Errorf("next: %v", again)
			}
			if again := s.ResetDevice(t.Context()); again != err {
				t.Errorf("reset: %v", again)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
			if *secret != (channel{}) || s.channel.get() != nil {
				t.Error("its keys are still there")
			}
		})
	}
}

// TestInnerAnswers is what a device may say inside of a session that is not an answer.
func TestInnerAnswers(t *testing.T) {
	for name, inner := range map[string][]byte{
		"nothing": nil, "two bytes": {0x81, 0}, "another command": encode(0x82, nil), "the command itself": encode(CommandEcho, nil),
		"too short": {0x81, 0, 2, 1}, "too long": {0x81, 0, 0, 1}, "an error without a code": {0x7f, 0, 0}, "an error with two": {0x7f, 0, 2, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			s := m.open()
			m.answer = func(Command, []byte) []byte { return inner }
			var over *SessionError
			if err := s.Echo(t.Context(), nil); !errors.As(err, &over) || !errors.Is(err, ErrMalformed) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestRefusalsLeaveTheSession shows errors after which a session goes on.
func TestRefusalsLeaveTheSession(t *testing.T) {
	m := newMirror(t)
	s := m.open()
	m.answer = func(c Command, data []byte) []byte {
		if c == CommandEcho {
			return encode(c|answerFlag, data)
		}
		return []byte{0x7f, 0, 1, byte(InsufficientPermissions)}
	}
	var refused *DeviceError
	var over *SessionError
	for name, call := range map[string]func() error{
		"sign":  func() error { _, err := s.SignEdDSA(t.Context(), 1, nil); return err },
		"blink": func() error { return s.Blink(t.Context(), 1) },
		"reset": func() error { return s.ResetDevice(t.Context()) },
	} {
		if err := call(); !errors.As(err, &refused) || errors.As(err, &over) || refused.Code != InsufficientPermissions {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Echo(t.Context(), []byte("still here")); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
	busy, cancel := context.WithCancel(t.Context())
	cancel()
	s.turn <- struct{}{}
	if err := s.Echo(busy, nil); !errors.Is(err, context.Canceled) || errors.As(err, &over) {
		t.Errorf("while another command runs: %v", err)
	}
	if err := s.Close(busy); !errors.Is(err, context.Canceled) {
		t.Errorf("close while another command runs: %v", err)
	}
	<-s.turn
	if err := s.Echo(t.Context(), nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestMessageBuffer fills the message buffer of either size to the last byte.
func TestMessageBuffer(t *testing.T) {
	m := newMirror(t)
	s := m.open()
	longest := 0
	m.size = func(message []byte) { longest = max(longest, len(message)) }
	m.answer = func(c Command, data []byte) []byte {
		if c == CommandGetDeviceInfo {
			return encode(c|answerFlag, []byte{2, 4, 0, 0, 0, 0, 1, 62, 0, 250})
		}
		return encode(c|answerFlag, data)
	}
	for _, c := range []struct{ most, message int }{{2028, 2044}, {3116, 3132}} {
		var tooLong *TooLongError
		if err := s.Echo(t.Context(), make([]byte, c.most+1)); !errors.As(err, &tooLong) || tooLong.Have != c.most+1 || tooLong.Limit != c.most {
			t.Errorf("%d bytes: %v", c.most+1, err)
		}
		if err := s.Echo(t.Context(), make([]byte, c.most)); err != nil {
			t.Errorf("%d bytes: %v", c.most, err)
		}
		if longest != c.message {
			t.Errorf("%d bytes are sent in %d", c.most, longest)
		}
		if _, err := s.DeviceInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHandshakeFaults(t *testing.T) {
	for name, fault := range map[string]struct {
		of     Command
		answer []byte
		want   error
	}{
		"no cryptogram":          {CommandCreateSession, encode(0x83, make([]byte, 16)), ErrMalformed},
		"a byte too many":        {CommandCreateSession, encode(0x83, make([]byte, 18)), ErrMalformed},
		"a wrong cryptogram":     {CommandCreateSession, encode(0x83, make([]byte, 17)), ErrWrongKey},
		"another command":        {CommandCreateSession, encode(0x84, make([]byte, 17)), ErrMalformed},
		"something at the end":   {CommandAuthenticateSession, encode(0x84, []byte{0}), ErrMalformed},
		"the other one's answer": {CommandAuthenticateSession, encode(0x83, nil), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.fault = func(message, answer []byte) ([]byte, error) {
				if Command(message[0]) == fault.of {
					return fault.answer, nil
				}
				return answer, nil
			}
			if s, err := Authenticate(t.Context(), m, 1, m.keys); !errors.Is(err, fault.want) || s != nil {
				t.Errorf("%v", err)
			}
		})
	}
	m := newMirror(t)
	if _, err := Authenticate(t.Context(), m, 1, DeriveKey([]byte("passwort"))); !errors.Is(err, ErrWrongKey) {
		t.Errorf("a wrong password: %v", err)
	}
	copied := m.keys
	m.keys.Wipe()
	for name, k := range map[string]AuthenticationKey{"wiped": copied, "zero": {}} {
		m.fault = func(_, _ []byte) ([]byte, error) { t.Errorf("%s: a message is sent", name); return nil, nil }
		if _, err := Authenticate(t.Context(), m, 1, k); err == nil {
			t.Errorf("a session with a key that is %s", name)
		}
	}
	AuthenticationKey{}.Wipe()
}

// TestChallengesDiffer: who could choose our challenge could play an old session again.
func TestChallengesDiffer(t *testing.T) {
	m := newMirror(t)
	m.open()
	first := m.begun
	m.open()
	if first == m.begun || binary.BigEndian.Uint64(first[:]) == 0 {
		t.Errorf("challenges %x and %x", first[:8], m.begun[:8])
	}
}

// TestSecretsAreNotPrinted prints everything with keys in it in every way.
func TestSecretsAreNotPrinted(t *testing.T) {
	m := newMirror(t)
	s := m.open()
	own := struct {
		key AuthenticationKey
		s   *Session
	}{m.keys, s}
	keys, c := m.keys.hidden.get(), s.channel.get()
	secrets := []key128{keys.enc, keys.mac, c.enc, c.mac, c.answerMAC}
	for _, v := range []any{m.keys, &m.keys, s, own, &own, []any{own}, map[string]any{"x": own}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%o", "%p", "%b", "%e"} {
			text := fmt.Sprintf(verb, v)
			for _, k := range secrets {
				for _, form := range []string{"%x", "%X", "% x", "%v", "%d", "%#v", "%s", "%q", "%o", "%b", "%c"} {
					if printed := strings.Trim(fmt.Sprintf(form, k), "[]"); strings.Contains(text, printed) {
						t.Errorf("%s of %T prints a key", verb, v)
					}
				}
			}
		}
	}
}

// TestSignatureForms: a signature is two positive integers, and nothing else.
func TestSignatureForms(t *testing.T) {
	for text, ok := range map[string]bool{
		"3006020101020101": true, "300602010102010100": false, "3006020100020101": false, "3006020101020100": false,
		"3006020101020181": false, "3003020101": false, "": false, "3106020101020101": false,
	} {
		if _, err := parseECDSA(unhex(t, text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
