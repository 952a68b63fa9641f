package yubihsmtest

import (
	"bytes"
	"encoding/binary"
)

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

func (c *call) closeSession() ([]byte, error) {
	c.d.sessions[c.s.id] = nil
	return nil, nil
}
