package yubihsm

import "encoding/binary"

// Sizes of messages in bytes, header included (yubihsm.h; python-yubihsm for the versions).
const (
	// MaxMessage is the message buffer of firmware 2.4 and later. No answer is longer.
	MaxMessage = 3136
	// oldMessage is the message buffer of older firmware, which a device has until we know.
	oldMessage = 2048

	headerSize = 3 // command, and the length of what follows, big endian
)

// encode returns a message: command, length of the data (2 bytes, big endian), data.
func encode(c Command, data []byte) []byte {
	message := make([]byte, headerSize, headerSize+len(data))
	message[0] = byte(c)
	binary.BigEndian.PutUint16(message[1:], uint16(len(data)))
	return append(message, data...)
}

// decode returns the data of an answer to a command. A refusal is a [*DeviceError].
func decode(c Command, answer []byte) ([]byte, error) {
	if len(answer) < headerSize {
		return nil, malformed("%d bytes are no message", len(answer))
	}
	data := answer[headerSize:]
	if n := int(binary.BigEndian.Uint16(answer[1:])); n != len(data) {
		return nil, malformed("%d bytes follow where %d are announced", len(data), n)
	}
	switch Command(answer[0]) {
	case c | answerFlag:
		return data, nil
	case errorAnswer:
		if len(data) != 1 {
			return nil, malformed("an error code of %d bytes", len(data))
		}
		return nil, &DeviceError{c, ErrorCode(data[0])}
	}
	return nil, malformed("0x%02x does not answer %v", answer[0], c)
}

// fields takes the parts of an answer apart, in order. After a part that is not there it
// stays short; done reports that.
type fields struct {
	rest  []byte
	short bool
}

// bytes returns the next n bytes, or n zeros.
func (f *fields) bytes(n int) []byte {
	if len(f.rest) < n {
		f.short, f.rest = true, nil
		return make([]byte, n)
	}
	part := f.rest[:n:n]
	f.rest = f.rest[n:]
	return part
}

func (f *fields) byte() byte     { return f.bytes(1)[0] }
func (f *fields) uint16() uint16 { return binary.BigEndian.Uint16(f.bytes(2)) }
func (f *fields) uint32() uint32 { return binary.BigEndian.Uint32(f.bytes(4)) }
func (f *fields) uint64() uint64 { return binary.BigEndian.Uint64(f.bytes(8)) }

// done returns an error if parts were missing, or bytes are left.
func (f *fields) done(what string) error {
	switch {
	case f.short:
		return malformed("%s is too short", what)
	case len(f.rest) > 0:
		return malformed("%d bytes after %s", len(f.rest), what)
	}
	return nil
}
