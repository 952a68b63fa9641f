package yubihsm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// Derivation constants (SCP03, 4.1.5 and 6.2.2).
const (
	deriveCardCryptogram = 0x00
	deriveHostCryptogram = 0x01
	deriveEncryption     = 0x04
	deriveMAC            = 0x06
	deriveAnswerMAC      = 0x07
)

const macSize = 8 // of a command's and an answer's MAC, the first half of a CMAC

// handshake is the two challenges of a session, which all of its keys depend on: 8 bytes
// from us, then 8 from the device.
type handshake [16]byte

// derive returns 16 bytes of a key (SCP03, 4.1.5: the KDF of NIST SP 800-108 in counter
// mode with AES-CMAC; one round is enough). bits is how many of them count: 64 or 128.
func (h handshake) derive(k *key128, constant byte, bits uint16) key128 {
	label := make([]byte, 16) // 11 zeros, constant, zero, length, counter
	label[11] = constant
	binary.BigEndian.PutUint16(label[13:], bits)
	label[15] = 1
	return k.cmac(label, h[:])
}

// cryptogram proves to the other side that we know the MAC key.
func (h handshake) cryptogram(mac *key128, constant byte) [8]byte {
	full := h.derive(mac, constant, 64)
	return [8]byte(full[:8])
}

// channel is the secret half of a session: its keys, and where both sides are. It is for
// one command at a time; after an error it must not be used.
type channel struct {
	enc, mac, answerMAC key128
	chain               [16]byte // CMAC of our last message, the start of the next one's
	counter             uint64   // of commands; the device starts with 1
}

// newChannel returns the channel of a handshake. No message was sent on it.
func newChannel(k *authenticationKeys, h handshake) channel {
	return channel{
		enc:       h.derive(&k.enc, deriveEncryption, 128),
		mac:       h.derive(&k.mac, deriveMAC, 128),
		answerMAC: h.derive(&k.mac, deriveAnswerMAC, 128),
	}
}

// sign returns a message with its MAC, and moves the chain (SCP03, 6.2.4). What follows the
// header of the message is data.
func (c *channel) sign(command Command, data []byte) []byte {
	message := encode(command, data)
	binary.BigEndian.PutUint16(message[1:], uint16(len(data)+macSize)) // the MAC is over the length with it
	c.chain = c.mac.cmac(c.chain[:], message)
	return append(message, c.chain[:macSize]...)
}

// seal returns the session message that carries an inner message (SCP03, 6.2.6).
func (c *channel) seal(session byte, inner []byte) []byte {
	c.counter++
	data := append(make([]byte, 0, 1+len(inner)+16+macSize), session)
	data = append(data, inner...)
	data = append(data, 0x80)
	for len(data)%16 != 1 {
		data = append(data, 0)
	}
	cipher.NewCBCEncrypter(c.enc.block(), c.vector()).CryptBlocks(data[1:], data[1:])
	return c.sign(CommandSessionMessage, data)
}

// open returns the inner message of the answer to what seal returned last. A refusal of
// the message as such is a [*DeviceError], which nothing authenticates.
func (c *channel) open(session byte, answer []byte) ([]byte, error) {
	data, err := decode(CommandSessionMessage, answer)
	if err != nil {
		return nil, err
	}
	n := len(data) - macSize
	if n < 1+16 || n%16 != 1 {
		return nil, malformed("a session message of %d bytes", len(data))
	}
	mac := c.answerMAC.cmac(c.chain[:], answer[:len(answer)-macSize])
	if subtle.ConstantTimeCompare(mac[:macSize], data[n:]) != 1 {
		return nil, ErrBadMAC
	}
	if data[0] != session {
		return nil, malformed("it belongs to session %d, not %d", data[0], session)
	}
	inner := make([]byte, n-1)
	cipher.NewCBCDecrypter(c.enc.block(), c.vector()).CryptBlocks(inner, data[1:n])
	return unpad(inner)
}

// vector returns the initial vector of a command and its answer: the counter, encrypted
// (SCP03, 6.2.6; the device does not mark the answer's).
func (c *channel) vector() []byte {
	v := make([]byte, 16)
	binary.BigEndian.PutUint64(v[8:], c.counter)
	c.enc.block().Encrypt(v, v)
	return v
}

// unpad takes 0x80 and up to 15 zeros from the end of blocks.
func unpad(blocks []byte) ([]byte, error) {
	for i := len(blocks) - 1; i >= len(blocks)-16; i-- {
		switch blocks[i] {
		case 0x80:
			return blocks[:i], nil
		case 0:
		default:
			return nil, malformed("wrong padding")
		}
	}
	return nil, malformed("no padding")
}
