package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frames of HTTP/2 (RFC 9113, section 6).
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 1 // DATA, HEADERS
	flagAck        = 1 // SETTINGS, PING
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32

	settingPush       = 2
	settingWindow     = 4
	settingFrame      = 5
	settingHeaderList = 6

	resetRefused = 7 // REFUSED_STREAM: not processed, RFC 9113, section 8.7

	maxFrame      = 16 << 10  // of a payload, the least that RFC 9113 allows, in both directions
	maxWindow     = 1<<31 - 1 // of flow control
	defaultWindow = 1<<16 - 1 // until SETTINGS say otherwise
)

// frame is one frame; its payload is valid until the next one is read.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) has(flag byte) bool { return f.flags&flag != 0 }

// readFrame reads a frame into buf, which holds the longest that is allowed.
func readFrame(r io.Reader, buf *[maxFrame]byte) (frame, error) {
	head := buf[:9]
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	f := frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) & maxWindow}
	if length > maxFrame {
		return frame{}, fmt.Errorf("a frame of %d bytes, and no more than %d were allowed", length, maxFrame)
	}
	f.payload = buf[:length]
	if _, err := io.ReadFull(r, f.payload); err != nil {
		return frame{}, fmt.Errorf("in the middle of a frame: %w", err)
	}
	return f, f.check()
}

// check holds a frame against what RFC 9113 says of its kind: whether it belongs to a
// stream, and its length. Kinds that we do not know are to be ignored.
func (f frame) check() error {
	onStream, length := true, -1
	switch f.kind {
	case frameData, frameHeaders, frameContinuation:
	case framePriority:
		length = 5
	case frameReset:
		length = 4
	case frameSettings:
		onStream = false
		if len(f.payload)%6 != 0 || f.has(flagAck) && len(f.payload) > 0 {
			return errors.New("SETTINGS of a wrong length")
		}
	case framePing:
		onStream, length = false, 8
	case frameGoAway:
		onStream = false
		if len(f.payload) < 8 {
			return errors.New("GOAWAY of a wrong length")
		}
	case frameWindow:
		onStream, length = f.stream != 0, 4 // of either
	case framePush:
		return errors.New("PUSH_PROMISE, which we do not allow")
	default:
		return nil
	}
	switch {
	case onStream != (f.stream != 0):
		return fmt.Errorf("a frame of kind %d on stream %d", f.kind, f.stream)
	case length >= 0 && len(f.payload) != length:
		return fmt.Errorf("a frame of kind %d with %d bytes", f.kind, len(f.payload))
	}
	return nil
}

// content returns what DATA or HEADERS carry, without padding and priority.
func (f frame) content() ([]byte, error) {
	b, padding := f.payload, 0
	if f.has(flagPadded) {
		if len(b) == 0 {
			return nil, errors.New("a padded frame without the length of its padding")
		}
		b, padding = b[1:], int(b[0])
	}
	if f.kind == frameHeaders && f.has(flagPriority) {
		if len(b) < 5 {
			return nil, errors.New("HEADERS too short for their priority")
		}
		b = b[5:]
	}
	if padding > len(b) {
		return nil, errors.New("more padding than there is frame")
	}
	return b[:len(b)-padding], nil
}

// appendFrame appends a frame.
func appendFrame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// appendSetting appends one setting to the payload of SETTINGS.
func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}

// appendWindow appends a WINDOW_UPDATE of the whole connection.
func appendWindow(b []byte, more int) []byte {
	return appendFrame(b, frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(more)))
}
