package yubihsmtest

import (
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

// open decrypts a message of a session. The session is as it was until perform.
func (s *session) open(message []byte) (inner, chain []byte, err error) {
	sealed, chain, ok := s.verify(message)
	if !ok {
		return nil, nil, AuthenticationFailed
	}
	if len(sealed) == 0 || len(sealed)%16 != 0 {
		return nil, nil, WrongLength
	}
	inner = make([]byte, len(sealed))
	cipher.NewCBCDecrypter(newAES(s.enc), s.iv()).CryptBlocks(inner, sealed)
	if inner, ok = unpad(inner); !ok {
		return nil, nil, InvalidData
	}
	return inner, chain, nil
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
