package yubihsm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Session is an authenticated, encrypted session with a device. It is safe for concurrent
// use; commands run one after the other.
type Session struct {
	transport Transport
	id        byte
	authKey   uint16
	turn      chan struct{} // holds one element while a command runs; guards what is below

	channel hidden[channel]
	buffer  int // bytes of the device's message buffer
	over    *SessionError
}

// Authenticate opens a session with an authentication key, named by its object id. The
// device closes it 30 seconds after its last command. The session uses the transport and
// does not close it.
//
// Errors: [ErrWrongKey]; a [*DeviceError] with [ObjectNotFound] if there is no such
// authentication key, and with [SessionsFull] if 16 sessions are open; those of the transport.
func Authenticate(ctx context.Context, t Transport, id uint16, key AuthenticationKey) (*Session, error) {
	var challenge [8]byte
	rand.Read(challenge[:]) // never fails
	return authenticate(ctx, t, id, key, challenge)
}

// authenticate is the mutual authentication of the guide (CREATE SESSION, AUTHENTICATE
// SESSION). The device shows first that it knows the key.
func authenticate(ctx context.Context, t Transport, id uint16, key AuthenticationKey, challenge [8]byte) (*Session, error) {
	keys := key.hidden.get()
	if keys == nil {
		return nil, errors.New("cannot open a session with the YubiHSM: no authentication key")
	}
	h := handshake(append(challenge[:], make([]byte, 8)...))
	request := append(binary.BigEndian.AppendUint16(nil, id), challenge[:]...)
	answer, err := exchange(ctx, t, CommandCreateSession, encode(CommandCreateSession, request))
	if err != nil {
		return nil, err
	}
	f := fields{rest: answer}
	session, deviceChallenge, cryptogram := f.byte(), f.bytes(8), f.bytes(8)
	if err := f.done("the answer to create session"); err != nil {
		return nil, err
	}
	copy(h[8:], deviceChallenge)

	secret := hide(newChannel(keys, h))
	c := secret.get()
	want := h.cryptogram(&c.mac, deriveCardCryptogram)
	if subtle.ConstantTimeCompare(want[:], cryptogram) != 1 {
		secret.wipe()
		return nil, ErrWrongKey
	}
	ours := h.cryptogram(&c.mac, deriveHostCryptogram)
	message := c.sign(CommandAuthenticateSession, append([]byte{session}, ours[:]...))
	answer, err = exchange(ctx, t, CommandAuthenticateSession, message)
	if err := empty(CommandAuthenticateSession, answer, err); err != nil {
		secret.wipe()
		return nil, err
	}
	return &Session{transport: t, id: session, authKey: id, turn: make(chan struct{}, 1), channel: secret, buffer: oldMessage}, nil
}

// exchange sends a message outside of a session, and returns the data of the answer.
func exchange(ctx context.Context, t Transport, c Command, message []byte) ([]byte, error) {
	answer, err := t.Exchange(ctx, message)
	if err != nil {
		return nil, err
	}
	return decode(c, answer)
}

// Send has the device carry out a command, and returns the data of its answer. It is what
// all methods of a session use; it is exported for commands that have no method.
//
// A [*DeviceError] and a [*TooLongError] leave the session as it was, and so does the error
// of a context that ends while other commands have their turn. Every other error is a
// [*SessionError], and the session is over.
func (s *Session) Send(ctx context.Context, c Command, data []byte) ([]byte, error) {
	if err := s.begin(ctx, c); err != nil {
		return nil, err
	}
	defer s.done()
	if s.over != nil {
		return nil, s.over
	}
	return s.send(ctx, c, data)
}

// begin waits until no other command runs. done has to follow.
func (s *Session) begin(ctx context.Context, c Command) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%v has to wait for other commands: %w", c, context.Cause(ctx))
	}
}

func (s *Session) done() { <-s.turn }

// send is one command on a session that is not over.
func (s *Session) send(ctx context.Context, c Command, data []byte) ([]byte, error) {
	if most := mostData(s.buffer); len(data) > most {
		return nil, &TooLongError{c, len(data), most}
	}
	inner := encode(c, data)
	channel := s.channel.get()
	message := channel.seal(s.id, inner)
	clear(inner)
	answer, err := s.transport.Exchange(ctx, message)
	if err != nil {
		return nil, s.end(err)
	}
	if inner, err = channel.open(s.id, answer); err != nil {
		return nil, s.end(err)
	}
	answer, err = decode(c, inner)
	if _, refused := err.(*DeviceError); err != nil && !refused {
		return nil, s.end(err)
	}
	return answer, err
}

// mostData returns how many bytes of data a command in a session may have: header, session
// id and MAC, and, in blocks of 16 bytes, another header, the data, and a byte of padding.
func mostData(buffer int) int {
	return (buffer-headerSize-1-macSize)/16*16 - headerSize - 1
}

// end notes that the session is over, and why. The caller has its turn.
func (s *Session) end(cause error) error {
	s.over = &SessionError{cause}
	s.channel.wipe()
	return s.over
}

// Close closes the session on the device and takes its keys out of memory. If the session
// is over already, nothing is sent, and nil returned: the device may have given its id to
// somebody else.
func (s *Session) Close(ctx context.Context) error {
	if err := s.begin(ctx, CommandCloseSession); err != nil {
		return err
	}
	defer s.done()
	if s.over != nil {
		return nil
	}
	answer, err := s.send(ctx, CommandCloseSession, nil)
	if s.over == nil {
		s.end(ErrClosed)
	}
	return empty(CommandCloseSession, answer, err)
}

// ResetDevice deletes all objects, log entries and options, and restarts the device, which
// then has the authentication key 1 with the password "password". The session is over, and
// so are all others. It needs [ResetDevice]. A [*SessionError] can mean that the device
// restarted before its answer got out.
func (s *Session) ResetDevice(ctx context.Context) error {
	if err := s.begin(ctx, CommandResetDevice); err != nil {
		return err
	}
	defer s.done()
	if s.over != nil {
		return s.over
	}
	answer, err := s.send(ctx, CommandResetDevice, nil)
	if err == nil {
		s.end(ErrClosed)
	}
	return empty(CommandResetDevice, answer, err)
}

// ID returns the number of the session on the device, 0 to 15.
func (s *Session) ID() byte { return s.id }

// String names the session without its keys.
func (s *Session) String() string {
	return fmt.Sprintf("YubiHSM session %d with authentication key 0x%04x", s.id, s.authKey)
}

// Format prints what String returns, whatever the verb.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// empty refuses an answer that has data where the guide has none.
func empty(c Command, answer []byte, err error) error {
	if err == nil && len(answer) > 0 {
		err = malformed("%v is answered with %d bytes", c, len(answer))
	}
	return err
}
