package yubihsmtest

import (
	"bytes"
	"encoding/binary"
)

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

// flip changes a byte of a message that is long enough.
func flip(message []byte, i int) []byte {
	if i < 0 {
		i += len(message)
	}
	if i >= 0 && i < len(message) {
		message[i] ^= 1
	}
	return message
}

// shorten makes the length in a frame fit its data.
func shorten(message []byte) []byte {
	binary.BigEndian.PutUint16(message[1:], uint16(len(message)-3))
	return message
}
