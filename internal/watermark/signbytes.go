package watermark

import (
	"bytes"
	"encoding/binary"
)

// timestampField is the number of the timestamp in a CanonicalVote
// (proto/tendermint/types/canonical.proto, the same from v0.34 to v2).
const timestampField = 5

// sameVote reports whether two canonical votes differ in nothing but their
// timestamps. Bytes that are no message differ.
func sameVote(a, b []byte) bool {
	a1, _, a2, okA := splitTimestamp(a)
	b1, _, b2, okB := splitTimestamp(b)
	return okA && okB && bytes.Equal(a1, b1) && bytes.Equal(a2, b2)
}

// splitTimestamp cuts the canonical vote in b, without its length prefix, into
// what comes before the timestamp field, the timestamp itself, and the rest.
// It walks the fields and looks into none.
func splitTimestamp(b []byte) (before, timestamp, after []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size != uint64(len(b)-n) {
		return nil, nil, nil, false
	}
	msg := b[n:]
	for pos := 0; pos < len(msg); {
		tag, n := binary.Uvarint(msg[pos:])
		if n <= 0 {
			return nil, nil, nil, false
		}
		value := pos + n
		end := fieldEnd(msg, value, tag&7)
		if end < 0 {
			return nil, nil, nil, false
		}
		if tag == timestampField<<3|2 {
			_, n := binary.Uvarint(msg[value:])
			return msg[:pos], msg[value+n : end], msg[end:], true
		}
		pos = end
	}
	return nil, nil, nil, false
}

// fieldEnd returns the offset after the field value at pos, or -1.
func fieldEnd(msg []byte, pos int, wireType uint64) int {
	switch wireType {
	case 0: // varint
		_, n := binary.Uvarint(msg[pos:])
		if n <= 0 {
			return -1
		}
		return pos + n
	case 1: // fixed64
		if len(msg)-pos < 8 {
			return -1
		}
		return pos + 8
	case 2: // length-delimited
		size, n := binary.Uvarint(msg[pos:])
		if n <= 0 || size > uint64(len(msg)-pos-n) {
			return -1
		}
		return pos + n + int(size)
	}
	return -1
}
