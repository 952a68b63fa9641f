package yubihsmtest

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"time"
)

// What the device allows: sessions at once, and how long one may be idle.
const (
	MaxSessions = 16
	IdleTime    = 30 * time.Second
)

// session is a secure channel (GlobalPlatform's SCP03, with a MAC of 8 bytes).
type session struct {
	id            byte
	authKey       uint16
	domains       uint16
	can, delegate Capabilities

	enc, mac, rmac []byte
	host           []byte // the cryptogram that the host must send; nil once it has
	chain          []byte // the last MAC, 16 bytes
	counter        uint64
	used           time.Time
}

// frame returns a message: command, length in two bytes, data.
func frame(command byte, data ...[]byte) []byte {
	all := bytes.Join(data, nil)
	return append(binary.BigEndian.AppendUint16([]byte{command}, uint16(len(all))), all...)
}

func errorFrame(code Code) []byte { return frame(errorReply, []byte{byte(code)}) }

// parse takes a frame apart; false if its length is not what it says.
func parse(b []byte) (command byte, data []byte, ok bool) {
	if len(b) < 3 || int(binary.BigEndian.Uint16(b[1:])) != len(b)-3 {
		return 0, nil, false
	}
	return b[0], b[3:], true
}

// expire ends the sessions that were idle for too long.
func (d *Device) expire() {
	for i, s := range d.sessions {
		if s != nil && d.now().Sub(s.used) >= IdleTime {
			d.sessions[i] = nil
		}
	}
}

// createSession answers the first message of a session.
func (c *call) createSession() ([]byte, error) {
	if len(c.in) != 10 {
		return nil, WrongLength
	}
	c.target = binary.BigEndian.Uint16(c.in)
	key := c.d.objects[ref{AuthenticationKey, c.target}]
	if key == nil {
		return nil, ObjectNotFound
	}
	for id, old := range c.d.sessions {
		if old != nil {
			continue
		}
		s, card, cryptogram := newSession(byte(id), key, c.in[2:])
		s.used = c.d.now()
		c.d.sessions[id] = s
		return bytes.Join([][]byte{{s.id}, card, cryptogram}, nil), nil
	}
	return nil, SessionsFull
}

func newSession(id byte, key *object, host []byte) (s *session, card, cryptogram []byte) {
	card = make([]byte, 8)
	rand.Read(card)
	context := append(append([]byte(nil), host...), card...)
	enc, mac := key.secret[:16], key.secret[16:]
	s = &session{id: id, authKey: key.ID, domains: key.Domains, can: key.Capabilities, delegate: key.Delegated,
		enc: derive(enc, 4, context, 128), mac: derive(mac, 6, context, 128), rmac: derive(mac, 7, context, 128),
		chain: make([]byte, 16), counter: 1}
	s.host = derive(s.mac, 1, context, 64)
	return s, card, derive(s.mac, 0, context, 64)
}

// find returns the session that a message of it names by its first byte.
func (d *Device) find(data []byte) *session {
	if len(data) == 0 || data[0] >= MaxSessions {
		return nil
	}
	return d.sessions[data[0]]
}

// verify checks the MAC at the end of a message, and returns what is before it and the
// next value of the chain.
func (s *session) verify(message []byte) (data, chain []byte, ok bool) {
	if len(message) < 3+1+8 {
		return nil, nil, false
	}
	body := message[:len(message)-8]
	chain = cmac(s.mac, s.chain, body)
	return body[4:], chain, subtle.ConstantTimeCompare(chain[:8], message[len(message)-8:]) == 1
}

// authenticate answers the second message of a session.
func (c *call) authenticate() ([]byte, error) {
	s := c.d.find(c.in)
	if s == nil || s.host == nil {
		return nil, InvalidSession
	}
	c.target = s.authKey
	cryptogram, chain, ok := s.verify(c.message)
	if !ok || !bytes.Equal(cryptogram, s.host) {
		c.d.sessions[s.id] = nil
		return nil, AuthenticationFailed
	}
	s.chain, s.host, s.used = chain, nil, c.d.now()
	return nil, nil
}

// open decrypts a message of a session. The session is as it was until accept.
func (d *Device) open(message []byte) (s *session, inner, chain []byte, err error) {
	s = d.find(message[3:])
	if s == nil || s.host != nil {
		return nil, nil, nil, InvalidSession
	}
	sealed, chain, ok := s.verify(message)
	if !ok {
		if !d.options.KeepsSessions {
			d.sessions[s.id] = nil
		}
		return nil, nil, nil, AuthenticationFailed
	}
	if len(sealed) == 0 || len(sealed)%16 != 0 {
		return nil, nil, nil, WrongLength
	}
	inner = make([]byte, len(sealed))
	cipher.NewCBCDecrypter(newAES(s.enc), s.iv()).CryptBlocks(inner, sealed)
	if inner, ok = unpad(inner); !ok {
		return nil, nil, nil, InvalidData
	}
	return s, inner, chain, nil
}

func (s *session) iv() []byte {
	iv := make([]byte, 16)
	binary.BigEndian.PutUint64(iv[8:], s.counter)
	newAES(s.enc).Encrypt(iv, iv)
	return iv
}

// seal encrypts an answer.
func (s *session) seal(inner []byte) []byte {
	sealed := pad(inner)
	cipher.NewCBCEncrypter(newAES(s.enc), s.iv()).CryptBlocks(sealed, sealed)
	s.counter++
	message := frame(SessionMessage|reply, []byte{s.id}, sealed, make([]byte, 8))
	copy(message[len(message)-8:], cmac(s.rmac, s.chain, message[:len(message)-8]))
	return message
}
