package yubihsmtest

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// host is the other end of a session: as little as these tests need. It has no part in
// judging the channel, which Yubico's programs do.
type host struct {
	d *Device
	s *session // with the host's keys, chain and counter
}

// What a host sees go wrong.
var (
	errMAC        = errors.New("the MAC is wrong")
	errFrame      = errors.New("the frame is wrong")
	errConnection = errors.New("the connection ends")
)

// post sends a message over HTTP.
func (d *Device) post(message []byte) ([]byte, error) {
	resp, err := http.Post(d.URL()+"/connector/api", "application/octet-stream", bytes.NewReader(message))
	if err != nil {
		return nil, errConnection
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, errConnection
	}
	return answer, nil
}

// content returns the data of an answer.
func content(command byte, answer []byte) ([]byte, error) {
	got, data, ok := parse(answer)
	switch {
	case ok && got == errorReply && len(data) == 1:
		return nil, Code(data[0])
	case !ok || got != command|reply:
		return nil, errFrame
	}
	return data, nil
}

// plain sends a command outside of a session.
func (d *Device) plain(command byte, data ...[]byte) ([]byte, error) {
	answer, err := d.post(frame(command, data...))
	if err != nil {
		return nil, err
	}
	return content(command, answer)
}

// login opens a session.
func login(d *Device, key uint16, password string) (*host, error) {
	challenge := random(8)
	data, err := d.plain(CreateSession, binary.BigEndian.AppendUint16(nil, key), challenge)
	if err != nil {
		return nil, err
	}
	if len(data) != 17 {
		return nil, errFrame
	}
	keys, context := passwordKeys(password), append(challenge, data[1:9]...)
	h := &host{d, &session{id: data[0], enc: derive(keys[:16], 4, context, 128), mac: derive(keys[16:], 6, context, 128),
		rmac: derive(keys[16:], 7, context, 128), chain: make([]byte, 16), counter: 1}}
	if !bytes.Equal(derive(h.s.mac, 0, context, 64), data[9:]) {
		return nil, errMAC
	}
	answer, err := d.post(h.signed(AuthenticateSession, derive(h.s.mac, 1, context, 64)))
	if err != nil {
		return nil, err
	}
	_, err = content(AuthenticateSession, answer)
	return h, err
}

// signed is a message of the session, with its MAC.
func (h *host) signed(command byte, data []byte) []byte {
	message := frame(command, []byte{h.s.id}, data, make([]byte, 8))
	body := message[:len(message)-8]
	h.s.chain = cmac(h.s.mac, h.s.chain, body)
	copy(message[len(body):], h.s.chain)
	return message
}

// send sends a command inside of the session. The counter goes on with every command.
func (h *host) send(command byte, data ...[]byte) ([]byte, error) {
	defer func() { h.s.counter++ }()
	sealed := pad(frame(command, data...))
	cipher.NewCBCEncrypter(newAES(h.s.enc), h.s.iv()).CryptBlocks(sealed, sealed)
	answer, err := h.d.post(h.signed(SessionMessage, sealed))
	if err != nil {
		return nil, err
	}
	body, err := content(SessionMessage, answer)
	switch {
	case err != nil:
		return nil, fmt.Errorf("outside of the session: %w", err)
	case len(body) < 1+16+8 || body[0] != h.s.id:
		return nil, errFrame
	case !bytes.Equal(cmac(h.s.rmac, h.s.chain, answer[:len(answer)-8])[:8], answer[len(answer)-8:]):
		return nil, errMAC
	}
	inner := body[1 : len(body)-8]
	cipher.NewCBCDecrypter(newAES(h.s.enc), h.s.iv()).CryptBlocks(inner, inner)
	inner, ok := unpad(inner)
	if !ok {
		return nil, errFrame
	}
	return content(command, inner)
}

// sign signs with key 5.
func (h *host) sign(message string) ([]byte, error) {
	return h.send(SignEdDSA, []byte{0, 5}, []byte(message))
}

// admin opens a session of the factory's key.
func admin(t *testing.T, d *Device) *host {
	t.Helper()
	h, err := login(d, 1, "password")
	if err != nil {
		t.Fatal(err)
	}
	return h
}
